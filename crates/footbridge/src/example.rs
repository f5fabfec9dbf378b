//! The application that `footbridge dev` answers `/app` with: a small example.

use async_trait::async_trait;
use gateway::application::{Answer, Application, Call, CallError};

/// Sends what comes to `/app/message` to everyone at `/topic/public`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example;

#[async_trait]
impl Application for Example {
    async fn call(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        match &*call.path {
            "message" => Ok(vec![Answer {
                destination: "/topic/public".into(),
                headers: call.headers,
                body: call.body,
            }]),
            _ => Err(CallError::NoHandler {
                path: call.path,
                hint: "the built-in example handles /app/message only",
            }),
        }
    }
}
