//! Services that do almost nothing, each at its path.

use std::sync::Arc;

use async_trait::async_trait;
use bytesize::ByteSize;
use sockjs::{Answer, Config, Connection, Endpoint, Head, Over, Service};
use warp::Filter;
use warp::filters::BoxedFilter;
use websocket::Origins;

/// What is done for a session.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Says what is said.
    Echo,
    /// Ends at once.
    Close,
    /// Says as many letters as two to the power of the number that is said.
    Amplify,
}

#[async_trait]
impl Service for Kind {
    type Ticket = ();
    type Owner = ();

    fn admit(&self, _: &Head, _: Over) -> Result<(), Box<Answer>> {
        Ok(())
    }

    fn run(&self, (): (), connection: Connection) {
        tokio::spawn(self.serve(connection));
    }

    fn owner(&self, _: &Head) {}

    async fn is_owner(&self, (): &(), _: &Head) -> bool {
        true
    }
}

impl Kind {
    async fn serve(self, mut connection: Connection) {
        if let Self::Close = self {
            return connection.close(3000, "Go away!").await;
        }
        while let Some(message) = connection.receive().await {
            let answer = match self {
                Self::Echo | Self::Close => message,
                Self::Amplify => amplified(&message),
            };
            if connection.send(&answer).await.is_err() {
                return;
            }
        }
    }
}

fn amplified(message: &str) -> String {
    let power = message.trim().parse().ok().filter(|power| (1..19).contains(power)).unwrap_or(1);
    "x".repeat(1 << power)
}

/// All of them. Responses are short, so that tests see them end.
pub(crate) fn routes() -> BoxedFilter<(Answer,)> {
    let config = Config { response_limit: ByteSize::kib(4), ..Config::default() };
    let endpoint = |path: &str, kind: Kind, config: Config| {
        let (websocket, origins) = (websocket::Config::default(), Origins::any());
        let endpoint = Endpoint::new(config, websocket, origins, Arc::new(kind));
        sockjs::filter(path, Arc::new(endpoint))
    };
    endpoint("/echo", Kind::Echo, config.clone())
        .or(endpoint(
            "/disabled_websocket_echo",
            Kind::Echo,
            Config { websocket: false, ..config.clone() },
        ))
        .unify()
        .or(endpoint(
            "/cookie_needed_echo",
            Kind::Echo,
            Config { cookie_needed: true, ..config.clone() },
        ))
        .unify()
        .or(endpoint("/close", Kind::Close, config.clone()))
        .unify()
        .or(endpoint("/amplify", Kind::Amplify, config))
        .unify()
        .boxed()
}
