//! Which methods of the gRPC services a caller may call.
//!
//! A token says so itself by its claim `footbridge:methods`, a list (or one text, with spaces between), or
//! by a role that the configuration's table `grpc_roles` gives methods to. Both together count.
//!
//! A method is written `footbridge.v1.Notifications/Publish`, or without the package
//! `Notifications/Publish`; `Notifications/*` is all of a service, `*` all of all. Health and reflection are
//! not asked about here.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::principal::Principal;

/// The claim that holds methods.
pub const METHODS_CLAIM: &str = "footbridge:methods";

/// The package that may be left out.
const PACKAGE: &str = "footbridge.v1.";

/// Roles, each with what whoever has it may call.
pub type Roles = BTreeMap<String, Vec<Methods>>;

/// One method, all of a service, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Methods(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    All,
    Service(String),
    One(String),
}

/// A text that is no method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no method; write Service/Method as in \"Notifications/Publish\", Service/* or *"
)]
pub struct NoMethod(String);

/// What a caller may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions(Vec<Methods>);

impl Permissions {
    /// What `principal` may call by that table. A claim with a text that is no method allows nothing by it.
    pub fn of(principal: &Principal, roles: &Roles) -> Self {
        let own = principal.claims.texts(METHODS_CLAIM).map(ToOwned::to_owned);
        let own = own.filter_map(|text| Methods::try_from(text).ok());
        let of_roles = Self::of_roles(principal.roles.iter().map(|role| &**role), roles);
        Self(own.chain(of_roles.0).collect())
    }

    /// What whoever has the roles `has` may call by that table.
    pub fn of_roles<'a>(has: impl IntoIterator<Item = &'a str>, roles: &Roles) -> Self {
        Self(has.into_iter().filter_map(|role| roles.get(role)).flatten().cloned().collect())
    }

    /// Whether the method of that path may be called: `/footbridge.v1.Notifications/Publish`, as HTTP/2
    /// has it.
    pub fn allow(&self, path: &str) -> bool {
        let path = path.strip_prefix('/').unwrap_or(path);
        self.0.iter().any(|methods| methods.include(path))
    }
}

impl Methods {
    fn include(&self, path: &str) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Service(service) => {
                path.split_once('/').is_some_and(|(of, method)| of == service && !method.is_empty())
            }
            Kind::One(method) => method == path,
        }
    }
}

impl TryFrom<String> for Methods {
    type Error = NoMethod;

    fn try_from(text: String) -> Result<Self, NoMethod> {
        if text == "*" {
            return Ok(Self(Kind::All));
        }
        let word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
        };
        let Some((service, method)) = text.split_once('/').filter(|(service, method)| {
            word(service) && (*method == "*" || (word(method) && !method.contains('.')))
        }) else {
            return Err(NoMethod(text.escape_debug().take(100).collect()));
        };
        let package = if service.contains('.') { "" } else { PACKAGE };
        Ok(Self(match method {
            "*" => Kind::Service(format!("{package}{service}")),
            method => Kind::One(format!("{package}{service}/{method}")),
        }))
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::All => f.write_str("*"),
            Kind::Service(service) => write!(f, "{service}/*"),
            Kind::One(method) => f.write_str(method),
        }
    }
}

impl From<Methods> for String {
    fn from(methods: Methods) -> Self {
        methods.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn caller(claims: Value, roles: &[&str]) -> Principal {
        let Value::Object(claims) = claims else { panic!("{claims}") };
        Principal {
            claims: Arc::new(claims.into()),
            roles: roles.iter().map(|role| (*role).into()).collect(),
            ..Principal::anonymous()
        }
    }

    fn roles(toml: &str) -> Roles {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_caller_may_call_what_its_claim_or_a_role_of_it_names() {
        let roles = roles(
            "publisher = ['Notifications/Publish', 'Notifications/PublishStream']\n\
             watcher = ['footbridge.v1.Presence/*']\nadmin = ['*']",
        );
        let allowed = |principal: &Principal| {
            let permissions = Permissions::of(principal, &roles);
            ["Notifications/Publish", "Notifications/SendToUser", "Presence/Users", "Groups/Add"]
                .map(|method| permissions.allow(&format!("/footbridge.v1.{method}")))
        };
        for (claims, has, expected) in [
            (json!({}), &[][..], [false, false, false, false]),
            (json!({}), &["publisher"], [true, false, false, false]),
            (json!({}), &["publisher", "watcher"], [true, false, true, false]),
            (json!({}), &["admin"], [true, true, true, true]),
            (json!({}), &["other"], [false; 4]),
            (json!({ "footbridge:methods": ["Notifications/*"] }), &[], [true, true, false, false]),
            (
                json!({ "footbridge:methods": "Groups/Add Notifications/Publish" }),
                &["watcher"],
                [true, false, true, true],
            ),
            (json!({ "footbridge:methods": ["", "/", "Notifications", "Not*"] }), &[], [false; 4]),
            (json!({ "footbridge:methods": { "*": true } }), &[], [false; 4]),
        ] {
            assert_eq!(allowed(&caller(claims.clone(), has)), expected, "{claims} {has:?}");
        }
    }

    #[test]
    fn a_method_is_of_its_whole_service() {
        let roles = roles("a = ['Notifications/*', 'other.v1.Things/Do']");
        let permissions = Permissions::of(&caller(json!({}), &["a"]), &roles);
        for (path, expected) in [
            ("/footbridge.v1.Notifications/Publish", true),
            ("/footbridge.v1.Notifications/", false),
            ("/footbridge.v1.NotificationsX/Publish", false),
            ("/evil.footbridge.v1.Notifications/Publish", false),
            ("/Notifications/Publish", false),
            ("/other.v1.Things/Do", true),
            ("/other.v1.Things/Undo", false),
        ] {
            assert_eq!(permissions.allow(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_method_is_refused_in_the_table() {
        for text in ["", "Publish", "a/b/c", "a b/c", "*/*", "a/b*"] {
            let said = toml::from_str::<Roles>(&format!("a = ['{text}']")).unwrap_err();
            assert!(said.message().contains("is no method"), "{said}");
        }
    }
}
