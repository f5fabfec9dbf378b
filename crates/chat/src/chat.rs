//! The chat: what comes to `/app/message` goes to everyone at `/topic/public`, what comes to `/app/whisper` to
//! one user at `/user/queue/whispers`, and who subscribes to `/app/history` gets what was said before.
//!
//! Bodies are JSON: `{"content": "hello"}` to everyone, `{"to": "bob", "content": "psst"}` to one.

use proto::v1::application_send::To;
use proto::v1::application_server::Application;
use proto::v1::message::Body;
use proto::v1::{
    ApplicationConnectRequest, ApplicationConnectResponse, ApplicationDisconnectRequest,
    ApplicationDisconnectResponse, ApplicationError, ApplicationMessageRequest,
    ApplicationMessageResponse, ApplicationSend, ApplicationSubscribeRequest,
    ApplicationSubscribeResponse, Caller, Message,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status};

use crate::history::{History, Line};

/// The longest content in bytes.
const LONGEST: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    history: History,
}

/// What is sent to everyone.
#[derive(Deserialize)]
struct Saying {
    content: String,
}

/// What is sent to one user.
#[derive(Deserialize)]
struct Whisper {
    to: String,
    content: String,
}

#[tonic::async_trait]
impl Application for Chat {
    /// Everybody may come in. To turn somebody away, answer with a `refusal`.
    async fn connect(
        &self,
        _: Request<ApplicationConnectRequest>,
    ) -> Result<Response<ApplicationConnectResponse>, Status> {
        Ok(Response::new(ApplicationConnectResponse::default()))
    }

    /// As `@MessageMapping` in Spring.
    async fn message(
        &self,
        request: Request<ApplicationMessageRequest>,
    ) -> Result<Response<ApplicationMessageResponse>, Status> {
        let ApplicationMessageRequest { caller, path, body, .. } = request.into_inner();
        let Caller { user, .. } = caller.unwrap_or_default();
        let answer = match &*path {
            "message" => self.say(user, &body),
            "whisper" => whisper(user, &body),
            _ => return Err(no_handler(&path)),
        };
        Ok(Response::new(match answer {
            Ok(sends) => ApplicationMessageResponse { sends, error: None },
            Err(error) => ApplicationMessageResponse { sends: Vec::new(), error: Some(error) },
        }))
    }

    /// As `@SubscribeMapping` in Spring.
    async fn subscribe(
        &self,
        request: Request<ApplicationSubscribeRequest>,
    ) -> Result<Response<ApplicationSubscribeResponse>, Status> {
        let path = request.into_inner().path;
        let messages = match &*path {
            "history" => vec![json(&self.history.lines())],
            _ => return Err(no_handler(&path)),
        };
        Ok(Response::new(ApplicationSubscribeResponse { messages, error: None }))
    }

    async fn disconnect(
        &self,
        _: Request<ApplicationDisconnectRequest>,
    ) -> Result<Response<ApplicationDisconnectResponse>, Status> {
        Ok(Response::new(ApplicationDisconnectResponse {}))
    }
}

impl Chat {
    fn say(&self, sender: String, body: &[u8]) -> Result<Vec<ApplicationSend>, ApplicationError> {
        let Saying { content } = read(body)?;
        let line = Line { sender, content: checked(content)? };
        let send = send(To::Destination("/topic/public".into()), &line);
        self.history.add(line);
        Ok(vec![send])
    }
}

fn whisper(sender: String, body: &[u8]) -> Result<Vec<ApplicationSend>, ApplicationError> {
    let Whisper { to, content } = read(body)?;
    if to.is_empty() || to.len() > 255 || to.chars().any(char::is_control) {
        return Err(error("bad_user", "\"to\" is no user's name"));
    }
    // In a destination a slash stands between words.
    let destination = format!("/user/{}/queue/whispers", to.replace('/', "%2F"));
    let line = Line { sender, content: checked(content)? };
    Ok(vec![send(To::Destination(destination), &line)])
}

/// What the body says, or what the client is told of it at `/user/queue/errors`.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApplicationError> {
    serde_json::from_slice(body).map_err(|wrong| error("bad_message", &wrong.to_string()))
}

fn checked(content: String) -> Result<String, ApplicationError> {
    match content.len() {
        0 => Err(error("bad_message", "\"content\" is empty")),
        1..=LONGEST => Ok(content),
        _ => Err(error("bad_message", "\"content\" is longer than 4096 bytes")),
    }
}

fn error(code: &str, message: &str) -> ApplicationError {
    ApplicationError { code: code.into(), message: message.into() }
}

fn no_handler(path: &str) -> Status {
    Status::unimplemented(format!("there is no /app/{path}"))
}

fn send(to: To, line: &Line) -> ApplicationSend {
    ApplicationSend { to: Some(to), message: Some(json(line)) }
}

fn json(value: &impl serde::Serialize) -> Message {
    // Texts and lists of texts always have a JSON text.
    let json = serde_json::to_string(value).unwrap_or_default();
    Message { body: Some(Body::Json(json)), ..Message::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tell(chat: &Chat, path: &str, body: &str) -> ApplicationMessageResponse {
        let request = ApplicationMessageRequest {
            caller: Some(Caller { user: "ann".into(), ..Caller::default() }),
            path: path.into(),
            body: body.to_owned().into(),
            ..ApplicationMessageRequest::default()
        };
        chat.message(Request::new(request)).await.unwrap().into_inner()
    }

    #[tokio::test]
    async fn what_is_said_goes_to_everyone_and_is_kept() {
        let chat = Chat::default();
        let answer = tell(&chat, "message", r#"{"content":"hi","sender":"bob"}"#).await;
        let line = r#"{"sender":"ann","content":"hi"}"#;
        assert_eq!(answer.sends[0].to, Some(To::Destination("/topic/public".into())));
        assert_eq!(answer.sends[0].message.clone().unwrap().body, Some(Body::Json(line.into())));
        let request = ApplicationSubscribeRequest { path: "history".into(), ..Default::default() };
        let history = chat.subscribe(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(history.messages[0].body, Some(Body::Json(format!("[{line}]"))));
    }

    #[tokio::test]
    async fn a_whisper_goes_to_one_user_whatever_the_name() {
        let answer = tell(&Chat::default(), "whisper", r#"{"to":"b/c","content":"psst"}"#).await;
        let to = To::Destination("/user/b%2Fc/queue/whispers".into());
        assert_eq!(answer.sends[0].to, Some(to));
    }

    #[tokio::test]
    async fn bad_input_is_an_error_and_is_not_sent() {
        let chat = Chat::default();
        for (path, body) in [
            ("message", "hi"),
            ("message", "{}"),
            ("message", r#"{"content":""}"#),
            ("whisper", r#"{"content":"x"}"#),
            ("whisper", r#"{"to":"","content":"x"}"#),
        ] {
            let answer = tell(&chat, path, body).await;
            assert!(answer.sends.is_empty() && answer.error.is_some(), "{body}");
        }
        let long = format!(r#"{{"content":"{}"}}"#, "x".repeat(LONGEST + 1));
        assert!(tell(&chat, "message", &long).await.error.is_some());
    }
}
