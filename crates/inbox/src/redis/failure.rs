//! What a failure of Redis means for a store of inboxes, and what to do about it.

use redis_link::Failure;

use crate::Error;

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let refusal = match failure {
            Failure::Down(why) => return Self::Unavailable(why),
            Failure::Lost(why) => return Self::Unknown(why),
            Failure::Refused(refusal) => refusal,
        };
        let said = refusal.to_string();
        let (is_full, advice) = match refusal.code().unwrap_or_default() {
            "OOM" => (true, "it has used its memory up: raise maxmemory, or let inboxes hold less"),
            "MISCONF" => (true, "it cannot write to its disk: see that there is room, and its log"),
            "READONLY" => {
                (false, "it is a replica, which takes no writes: name the primary in urls")
            }
            "LOADING" => (false, "it is loading what it has; this ends by itself"),
            "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" => {
                (false, "a part of it is without a primary; see CLUSTER INFO if that lasts")
            }
            "NOREPLICAS" => (false, "it has fewer replicas than min-replicas-to-write"),
            "BUSY" => (false, "a script of somebody occupies it; SCRIPT KILL ends that"),
            "NOPERM" => (false, "its user may not do this: allow +@all on keys of the namespace"),
            "NOSCRIPT" => (false, "it has forgotten our scripts, which the next connection loads"),
            _ => (false, "this is not expected of Redis 7 or later"),
        };
        let text = format!("Redis refused: {advice} ({said})");
        match is_full {
            true => Self::NoSpace(text),
            false => Self::Unavailable(text),
        }
    }
}
