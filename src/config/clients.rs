//! Section `clients`: which users, and holders of tokens, share which part of the service.
//!
//! Users in no section are each a client of their own, with weight 1 and every profile. Names of
//! users are looked up when the daemon loads the configuration, not when it is checked: that may
//! be done on another host.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::Config;
use super::tokens::TokenHash;
use crate::profile::Profile;

/// Highest weight: more would round to the same turns, and leave others next to none.
const MOST_WEIGHT: u32 = 1_000;
/// Longest name of a client, in bytes; it is a label of metrics.
const NAME_BYTES: usize = 64;
/// The user id that no user has: chown(2) and setresuid(2) take it for "leave it as it is".
const NOBODY: u32 = u32::MAX;

/// One client, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its users.
    pub users: Vec<User>,
    /// What is known of its tokens, by their names: whoever shows one over TCP is this client.
    #[serde(default)]
    pub tokens: BTreeMap<String, TokenHash>,
    /// Turns in the queue, in proportion to those of others.
    pub weight: u32,
    /// Most of its sandboxes that run at one time; 0 means no bound of its own.
    pub concurrency: usize,
    /// Most of its jobs that wait.
    pub queue_length: usize,
    /// Profiles that it may use.
    pub profiles: Vec<String>,
    /// Most of its sessions at one time; absent: what others have who are in no client.
    pub sessions: Option<usize>,
}

/// A user, by id or by name. A name of digits is an id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a user must be a name or an id")]
pub enum User {
    /// By id.
    Id(u32),
    /// By name.
    Name(String),
}

impl User {
    fn id(&self) -> Option<u32> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Name(name) if name.bytes().all(|byte| byte.is_ascii_digit()) => name.parse().ok(),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.id(), self) {
            (Some(id), _) | (None, &Self::Id(id)) => write!(f, "{id}"),
            (None, Self::Name(name)) => write!(f, "{name:?}"),
        }
    }
}

/// All clients by name and, once users have been looked up, by user id.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    sections: BTreeMap<String, Client>,
    /// Most sessions of a client that says nothing of its own.
    sessions_per_client: usize,
    by_uid: HashMap<u32, Arc<Quota>>,
}

/// What a client may have of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Name of the client; the user id of a user in none.
    pub client: Arc<str>,
    /// Turns in the queue, in proportion to those of others; never 0.
    pub weight: u32,
    /// Most sandboxes that run at one time; 0 means no bound of its own.
    pub concurrency: usize,
    /// Most jobs that wait.
    pub queue_length: usize,
    /// Key of the configuration that `queue_length` comes from.
    pub queue_length_key: String,
    /// Profiles that may be used; `None` means all.
    pub profiles: Option<Vec<String>>,
    /// Most sessions at one time; 0 means none at all.
    pub sessions: usize,
    /// Key of the configuration that `sessions` comes from.
    pub sessions_key: String,
}

/// Key of what a client may have of sessions that says nothing of its own.
const SESSIONS_PER_CLIENT: &str = "sessions.sessions_per_client";

impl Quota {
    /// That of whoever is in no client, under this name.
    #[must_use]
    pub fn of_one(name: &str, config: &Config) -> Self {
        Self {
            client: name.into(),
            weight: 1,
            concurrency: 0,
            queue_length: config.service.queue_length_per_client,
            queue_length_key: "service.queue_length_per_client".to_owned(),
            profiles: None,
            sessions: config.sessions.sessions_per_client,
            sessions_key: SESSIONS_PER_CLIENT.to_owned(),
        }
    }

    fn of_client(name: &str, client: &Client, sessions_per_client: usize) -> Self {
        let (sessions, sessions_key) = match client.sessions {
            Some(own) => (own, format!("clients.{name}.sessions")),
            None => (sessions_per_client, SESSIONS_PER_CLIENT.to_owned()),
        };
        Self {
            client: name.into(),
            weight: client.weight,
            concurrency: client.concurrency,
            queue_length: client.queue_length,
            queue_length_key: format!("clients.{name}.queue_length"),
            profiles: Some(client.profiles.clone()),
            sessions,
            sessions_key,
        }
    }

    /// Whether this profile may be used.
    #[must_use]
    pub fn allows(&self, profile: &str) -> bool {
        self.profiles.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == profile))
    }
}

/// A section `clients` that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct ClientsError {
    /// The key at fault, such as `clients.judges.users[1]`.
    pub key: String,
    /// What is wrong with it.
    pub fault: ClientFault,
}

/// What is wrong with a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// The name could be taken for a user's id, or spoil a label.
    #[error(
        "the name of a client begins with a letter, goes on with letters, digits, \"-\", \"_\" and \".\", and has \
         at most {NAME_BYTES} bytes"
    )]
    Name,
    /// A number is out of its range.
    #[error("{value} is not {allowed}")]
    OutOfRange {
        /// The number.
        value: usize,
        /// What would be allowed.
        allowed: String,
    },
    /// There is no such profile.
    #[error("there is no profile {0:?}")]
    UnknownProfile(String),
    /// A profile is named twice.
    #[error("{0:?} stands there twice")]
    ProfileTwice(String),
    /// The name of a token could spoil a line of the journal.
    #[error(
        "the name of a token begins with a letter, goes on with letters, digits, \"-\", \"_\" and \".\", and has \
         at most {NAME_BYTES} bytes"
    )]
    TokenName,
    /// Who shows a token could be either.
    #[error("it is that of clients.{0} already")]
    TokenTwice(String),
    /// No user has this id.
    #[error("no user has the id {NOBODY}")]
    NoId,
    /// A user is in two clients, or twice in one.
    #[error("{user} is a user of clients.{other} already")]
    UserTwice {
        /// The user.
        user: User,
        /// The client that has the user, too.
        other: String,
    },
    /// This host has no such user.
    #[error("this host has no user {0}")]
    UnknownUser(User),
    /// The user database could not be asked.
    #[error("looking up {user}: {error}")]
    Lookup {
        /// The user.
        user: User,
        /// Why.
        error: std::io::Error,
    },
}

impl Clients {
    pub(super) fn new(sections: BTreeMap<String, Client>, sessions_per_client: usize) -> Self {
        Self { sections, sessions_per_client, by_uid: HashMap::new() }
    }

    /// Every client by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Client)> {
        self.sections.iter().map(|(name, client)| (name.as_str(), client))
    }

    /// Whether all is well, as far as that can be known on any host.
    pub(super) fn check(&self, profiles: &BTreeMap<String, Profile>) -> Result<(), ClientsError> {
        for (name, client) in &self.sections {
            check_name(name)?;
            check_numbers(name, client)?;
            check_profiles(name, &client.profiles, profiles)?;
        }
        self.check_tokens()?;
        let mut seen = HashMap::new();
        for (client, index, user) in self.users() {
            let wrong = |fault| ClientsError { key: format!("clients.{client}.users[{index}]"), fault };
            if user.id() == Some(NOBODY) {
                return Err(wrong(ClientFault::NoId));
            }
            if let Some(other) = seen.insert(user.to_string(), client) {
                return Err(wrong(ClientFault::UserTwice { user: user.clone(), other: other.to_owned() }));
            }
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), ClientsError> {
        let mut seen = BTreeMap::new();
        for (client, name, hash) in self.tokens() {
            let wrong = |fault| ClientsError { key: format!("clients.{client}.tokens.{name}"), fault };
            if !is_name(name) {
                return Err(wrong(ClientFault::TokenName));
            }
            if let Some(other) = seen.insert(hash, format!("{client}.tokens.{name}")) {
                return Err(wrong(ClientFault::TokenTwice(other)));
            }
        }
        Ok(())
    }

    /// Whether any client can be known by a token.
    #[must_use]
    pub fn have_tokens(&self) -> bool {
        self.tokens().next().is_some()
    }

    /// The names of the client and of the token whose text this is.
    #[must_use]
    pub fn holder(&self, token: &[u8]) -> Option<(&str, &str)> {
        let shown = TokenHash::of(token);
        // All of them are looked at, so that the time tells nobody whether, or where, one was found.
        self.tokens()
            .fold(None, |found, (client, name, hash)| if hash.is(&shown) { Some((client, name)) } else { found })
    }

    /// Looks up the users, so that clients can be told by the ids of their processes. `find` gives
    /// the id of a name, where the host knows that.
    ///
    /// # Errors
    /// A user that the host does not have, or one that two clients have under different names.
    pub fn resolve(&mut self, find: &dyn Fn(&str) -> std::io::Result<Option<u32>>) -> Result<(), ClientsError> {
        let quota = |name, client| Arc::new(Quota::of_client(name, client, self.sessions_per_client));
        let quotas: BTreeMap<&str, Arc<Quota>> =
            self.iter().map(|(name, client)| (name, quota(name, client))).collect();
        let mut by_uid: HashMap<u32, Arc<Quota>> = HashMap::new();
        for (client, index, user) in self.users() {
            let wrong = |fault| ClientsError { key: format!("clients.{client}.users[{index}]"), fault };
            let found = match (user.id(), user) {
                (Some(id), _) | (None, &User::Id(id)) => Ok(Some(id)),
                (None, User::Name(name)) => find(name),
            };
            let uid = found
                .map_err(|error| wrong(ClientFault::Lookup { user: user.clone(), error }))?
                .ok_or_else(|| wrong(ClientFault::UnknownUser(user.clone())))?;
            let quota = quotas.get(client).expect("made from the same sections");
            if let Some(other) = by_uid.insert(uid, Arc::clone(quota)) {
                return Err(wrong(ClientFault::UserTwice { user: user.clone(), other: other.client.to_string() }));
            }
        }
        self.by_uid = by_uid;
        Ok(())
    }

    fn tokens(&self) -> impl Iterator<Item = (&str, &str, &TokenHash)> {
        self.iter()
            .flat_map(|(client, section)| section.tokens.iter().map(move |(name, hash)| (client, name.as_str(), hash)))
    }

    fn users(&self) -> impl Iterator<Item = (&str, usize, &User)> {
        self.iter()
            .flat_map(|(name, client)| client.users.iter().enumerate().map(move |(index, user)| (name, index, user)))
    }
}

impl Config {
    /// What the client of this user may have.
    #[must_use]
    pub fn quota(&self, uid: u32) -> Arc<Quota> {
        let alone = || Arc::new(Quota::of_one(&uid.to_string(), self));
        self.clients.by_uid.get(&uid).cloned().unwrap_or_else(alone)
    }

    /// What the client of this name may have, which another configuration may have named; `None` where
    /// this one has no such client.
    #[must_use]
    pub fn quota_of(&self, client: &str) -> Option<Arc<Quota>> {
        let quota = match self.clients.sections.get(client) {
            Some(section) => Quota::of_client(client, section, self.clients.sessions_per_client),
            None if check_name(client).is_ok() => return None,
            None => Quota::of_one(client, self),
        };
        Some(Arc::new(quota))
    }
}

/// Whether a client or a token may be called so.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_plain && name.len() <= NAME_BYTES && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

fn check_name(name: &str) -> Result<(), ClientsError> {
    if is_name(name) {
        return Ok(());
    }
    Err(ClientsError { key: format!("clients.{name}"), fault: ClientFault::Name })
}

fn check_numbers(name: &str, client: &Client) -> Result<(), ClientsError> {
    let wrong = |key, value, allowed| ClientsError {
        key: format!("clients.{name}.{key}"),
        fault: ClientFault::OutOfRange { value, allowed },
    };
    if !(1..=MOST_WEIGHT).contains(&client.weight) {
        let value = usize::try_from(client.weight).unwrap_or(usize::MAX);
        return Err(wrong("weight", value, format!("from 1 to {MOST_WEIGHT}")));
    }
    // Every job passes through the queue, so 0 would refuse all of them.
    if client.queue_length == 0 {
        return Err(wrong("queue_length", 0, "at least 1".to_owned()));
    }
    Ok(())
}

fn check_profiles(name: &str, used: &[String], known: &BTreeMap<String, Profile>) -> Result<(), ClientsError> {
    for (index, profile) in used.iter().enumerate() {
        let wrong = |fault| Err(ClientsError { key: format!("clients.{name}.profiles[{index}]"), fault });
        if !known.contains_key(profile) {
            return wrong(ClientFault::UnknownProfile(profile.clone()));
        }
        if used.iter().take(index).any(|earlier| earlier == profile) {
            return wrong(ClientFault::ProfileTwice(profile.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
