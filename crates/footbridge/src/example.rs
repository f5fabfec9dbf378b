//! The application that `footbridge dev` answers `/app` with where no other is named: a small example.

use async_trait::async_trait;
use gateway::application::{Answer, Application, Call, CallError, Content, To};

/// Sends what comes to `/app/message` to everyone at `/topic/public`, and what comes to `/app/plain`, where
/// clients without STOMP send, back to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example;

#[async_trait]
impl Application for Example {
    async fn message(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        match &*call.path {
            "message" => Ok(vec![Answer {
                to: To::Destination("/topic/public".into()),
                content: Content::new(call.headers, call.body),
            }]),
            "plain" => Ok(vec![Answer {
                to: To::Session("/queue/plain".into()),
                content: Content::new(call.headers, call.body),
            }]),
            _ => Err(no_handler(call)),
        }
    }

    async fn subscribe(&self, call: Call) -> Result<Vec<Content>, CallError> {
        Err(no_handler(call))
    }
}

fn no_handler(call: Call) -> CallError {
    CallError::NoHandler {
        destination: call.destination,
        hint: ": the built-in example handles what is sent to /app/message and /app/plain only; name your own by --application",
    }
}
