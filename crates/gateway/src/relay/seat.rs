//! A session's place among the subscribers of something that the node holds once for all of them.

use broker::Destination;
use cluster::group;
use presence::GroupName;

use crate::hub;
use crate::users::Hearing;

/// See the module. Dropping it unsubscribes.
pub(crate) enum Seat {
    /// Of a topic, an exchange or a group.
    Hub(hub::Seat),
    /// Of a destination of the session's own user.
    User(Hearing),
}

impl Seat {
    /// Whether it is of that destination.
    pub(crate) fn is_of(&self, destination: &Destination) -> bool {
        match (self, destination) {
            (Self::Hub(seat), Destination::Group(name)) => {
                let topic = GroupName::new(name.clone()).ok().and_then(|name| group(&name).ok());
                topic.is_some_and(|topic| *seat.destination() == Destination::Topic(topic))
            }
            (Self::Hub(seat), destination) => seat.destination() == destination,
            (Self::User(hearing), destination) => hearing.is_to(destination),
        }
    }

    /// The group whose messages do not come here any more, if it is one's.
    pub(super) fn revoked(&self) -> Option<Destination> {
        let Self::Hub(seat) = self else { return None };
        let group = seat.group().filter(|_| seat.is_revoked())?;
        Some(Destination::Group(group.as_str().into()))
    }
}
