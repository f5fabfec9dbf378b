//! CPU time and resident memory of a process, from outside.
//!
//! CPU is read from the process's CPU clock (`clock_getcpuclockid(3)`): user and system time of
//! all its threads, those that have ended included, in nanoseconds. `/proc/PID/stat` counts the
//! same in ticks of 10 ms, and `/proc/PID/task/*/schedstat` forgets ended threads.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// A process under measurement.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Process {
    /// What it is called in the report.
    pub(super) name: String,
    /// Its process id.
    pub(super) pid: u32,
}

impl Process {
    /// This process: the load generator.
    pub(super) fn own() -> Self {
        Self { name: "bench".to_owned(), pid: std::process::id() }
    }

    /// The CPU time it has used since it began.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let time = self.clock()?.now().with_context(|| self.gone())?;
        Ok(Duration::from(time))
    }

    /// Its resident memory in bytes (`VmRSS`), files it maps included.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .with_context(|| self.gone())?;
        resident(&status).with_context(|| self.gone())
    }

    fn clock(&self) -> anyhow::Result<ClockId> {
        let pid = i32::try_from(self.pid).with_context(|| self.gone())?;
        clock_getcpuclockid(Pid::from_raw(pid)).with_context(|| self.gone())
    }

    fn gone(&self) -> String {
        format!("process {} of {} cannot be measured: is it running?", self.pid, self.name)
    }
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not NAME=PID");
        let (name, pid) = text.split_once('=').ok_or_else(wrong)?;
        let pid = pid.parse().map_err(|_| wrong())?;
        if name.is_empty() || pid == 0 {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// `VmRSS` of `/proc/PID/status` in bytes; a process that has ended has none.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status_file() {
        let status = "Name:\tbeam.smp\nVmPeak:\t  900 kB\nVmHWM:\t  800 kB\nVmRSS:\t  796 kB\n\
                      RssAnon:\t  152 kB\nThreads:\t23\n";
        assert_eq!(resident(status), Some(796 * 1024));
        assert_eq!(resident("Name:\tzombie\nState:\tZ (zombie)\n"), None);
        assert_eq!(resident("VmRSS:\tmany kB\n"), None);
    }

    #[test]
    fn this_process_uses_memory_and_cpu() {
        let own = Process::own();
        assert!(own.resident().unwrap() > 100 << 10);
        let before = own.cpu().unwrap();
        while own.cpu().unwrap() == before {}
    }

    #[test]
    fn another_process_is_measured_and_its_end_is_an_error() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process { name: "sleep".to_owned(), pid: child.id() };
        process.cpu().unwrap();
        process.resident().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.cpu().is_err());
        assert!(process.resident().unwrap_err().to_string().contains("sleep"));
    }

    #[test]
    fn a_process_is_named_on_the_command_line() {
        let process: Process = "rabbitmq=456".parse().unwrap();
        assert_eq!((process.name.as_str(), process.pid), ("rabbitmq", 456));
        for wrong in ["456", "=456", "a=", "a=b", "a=0"] {
            assert!(wrong.parse::<Process>().is_err(), "{wrong}");
        }
    }
}
