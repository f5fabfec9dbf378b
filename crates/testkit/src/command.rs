//! One run of an administration program (`rabbitmqctl`, `redis-cli`).

use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::CommandError;

/// `rabbitmqctl` starts a virtual machine of its own for every run, a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command to its end and returns what it printed on standard output.
pub(crate) async fn run(command: &mut Command) -> Result<String, CommandError> {
    let words = std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args());
    let name = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = match output {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(CommandError::Io { command: name, source }),
        Err(_) => return Err(CommandError::TimedOut { command: name, after: PATIENCE }),
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let said = printed + &String::from_utf8_lossy(&output.stderr);
    Err(CommandError::Failed { command: name, status: output.status, output: said })
}
