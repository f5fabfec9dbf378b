//! What a session is told that went wrong without ending it: a message at `/user/queue/errors`.

use broker::MessageId;
use bytestring::ByteString;
use cluster::Content;

use crate::users::Registered;

/// Where a session hears of it, within its user.
pub(crate) const ERRORS: &str = "/queue/errors";

/// See the module.
pub(crate) struct ErrorNote<'a> {
    /// One word for programs, in the header `error`.
    pub(crate) error: &'a str,
    /// The destination that it is about as the client knows it, in the header `error-destination`.
    pub(crate) destination: &'a str,
    /// The receipt that the failed frame asked for, in the header `receipt-id`.
    pub(crate) receipt: Option<&'a str>,
    /// The body, for people.
    pub(crate) text: &'a str,
}

impl ErrorNote<'_> {
    /// Tells it to one session, if that is subscribed.
    pub(crate) fn tell(&self, session: &Registered) {
        let mut headers = vec![
            (ByteString::from_static("content-type"), ByteString::from_static("text/plain")),
            (ByteString::from_static("error"), self.error.into()),
            (ByteString::from_static("error-destination"), self.destination.into()),
        ];
        let receipt = self.receipt.map(|id| (ByteString::from_static("receipt-id"), id.into()));
        headers.extend(receipt);
        let body = self.text.to_owned().into();
        session.tell(ERRORS, &Content { id: MessageId::new(), headers, body });
    }
}
