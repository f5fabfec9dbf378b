//! What a session is told that went wrong without ending it: a message at `/user/queue/errors`.

use broker::MessageId;
use bytestring::ByteString;
use cluster::Content;

use crate::users::Registered;

/// Where a session hears of it, within its user.
pub(crate) const ERRORS: &str = "/queue/errors";

/// The header that says what went wrong, for programs; receipts of what failed have it, too.
pub(crate) const ERROR: &str = "error";

/// The header that says which destination it is about.
const ERROR_DESTINATION: &str = "error-destination";

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
    /// Tells it to one session of this task's, if that is subscribed.
    pub(crate) fn tell(&self, session: &Registered) {
        session.tell(ERRORS, &self.content());
    }

    /// The message.
    pub(crate) fn content(&self) -> Content {
        let mut headers = vec![
            (ERROR.into(), self.error.into()),
            (ERROR_DESTINATION.into(), self.destination.into()),
            (stomp::header::CONTENT_TYPE.into(), "text/plain".into()),
        ];
        let receipt: Option<ByteString> = self.receipt.map(Into::into);
        headers.extend(receipt.map(|id| (stomp::header::RECEIPT_ID.into(), id)));
        Content { id: MessageId::new(), headers, body: self.text.to_owned().into() }
    }
}
