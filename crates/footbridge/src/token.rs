//! `footbridge token`: makes a token, or says what is in one.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use access::token::{Signer, wanted_claims};
use access::{Access, MAX_TOKEN, TokenError};
use anyhow::{Context, bail};
use broker::Destinations;
use serde_json::Value;

use crate::config::{Config, Role, environment};

/// Make a token, or say what is in one and whether it would be accepted.
///
/// Both go by the section [access] of the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    /// Configuration file [default: none, only the defaults and the environment]
    #[arg(long, env = "FOOTBRIDGE_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print a token for a user, signed with access.jwt_secret or a private key.
    ///
    /// It has an issuer and an audience if the configuration wants them.
    Make(Make),
    /// Print what a token says, and whether a gateway with this configuration accepts it.
    Check {
        /// The token; without it, it is read from standard input, where no other user sees it.
        token: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Make {
    /// The user's name.
    user: String,
    /// A role; may be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A claim, as name=value; the value is JSON or else a text. May be repeated.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// When it expires, from now on.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    /// A private key in PEM, in place of access.jwt_secret.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The key's id in the set where its public half is.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

impl Command {
    /// # Errors
    /// The configuration or the key cannot be used, or the token is refused.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(self.config.as_deref(), environment(), Role::Gateway)?;
        match self.what {
            What::Make(make) => print(&make.token(&config.access)?),
            What::Check { token } => {
                let token = token.map_or_else(from_standard_input, Ok)?;
                check(&config, token.trim())
            }
        }
    }
}

impl Make {
    fn token(self, config: &access::Config) -> anyhow::Result<String> {
        let mut claims = wanted_claims(config, &self.user);
        if !self.roles.is_empty() {
            claims.insert(config.jwt_roles_claim.clone(), self.roles.into());
        }
        claims.extend(self.claims);
        let signer = signer(config, self.key_file.as_deref())?.with_id(self.key_id);
        Ok(signer.sign(claims, Some(self.ttl), SystemTime::now())?)
    }
}

fn signer(config: &access::Config, key_file: Option<&Path>) -> anyhow::Result<Signer> {
    let Some(file) = key_file else {
        if config.jwt_secret.is_empty() {
            bail!(
                "there is nothing to sign with: set access.jwt_secret (FOOTBRIDGE_ACCESS__JWT_SECRET), or \
                 give a private key with --key-file"
            );
        }
        return Signer::of_secret(&config.jwt_secret).context("access.jwt_secret");
    };
    let shown = file.display();
    let pem = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    Signer::of_pem(&pem).with_context(|| shown.to_string())
}

fn check(config: &Config, token: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (explanation, key_failure) = runtime.block_on(async {
        let access = Access::start(&config.access, &Destinations::new(&config.destinations))?;
        let explanation = access.explain(token, SystemTime::now()).await;
        anyhow::Ok((explanation, access.key_failure()))
    })?;
    let Some(explanation) = explanation else {
        bail!(
            "no key to check it with: set access.jwt_secret, jwt_key_file, jwks_file or jwks_url in the \
             configuration"
        );
    };
    print(&explanation.to_string())?;
    match (explanation.verdict, key_failure) {
        (Ok(_), _) => Ok(()),
        (Err(TokenError::KeysUnavailable), Some(why)) => bail!("access.jwks_url: {why}"),
        (Err(_), _) => bail!("the token is refused"),
    }
}

fn from_standard_input() -> anyhow::Result<String> {
    let mut token = String::new();
    // A little more than the longest, so that a longer one is seen to be.
    let most = u64::try_from(MAX_TOKEN).unwrap_or(u64::MAX) + 1024;
    let input = io::stdin().lock();
    input.take(most).read_to_string(&mut token).context("cannot read standard input")?;
    Ok(token)
}

fn print(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is written name=value")?;
    if name.is_empty() {
        return Err("a claim has a name".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let time = humantime_serde::re::humantime::parse_duration(text);
    time.map_err(|why| format!("{why}; write 15m, 1h or 30days, say"))
}
