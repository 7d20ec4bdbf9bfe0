//! Who asks: a process of this host, or whoever holds a token.

use std::sync::Arc;

use axum::extract::Extension;

use crate::config::Config;
use crate::config::clients::Quota;

use super::problem::{Kind, Problem};

/// Who is at the other end. What it may have of the service is its [`Quota`], and what it makes is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// A process at the other end of a Unix socket, as the kernel names it; unix(7), SO_PEERCRED.
    Process {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its process id, where it has one in our namespace.
        pid: Option<i32>,
    },
    /// Whoever showed a token. No user of this host is behind it, so nothing of theirs is in reach.
    Token {
        /// The client whose token it is.
        client: Arc<str>,
        /// The token's name.
        name: Arc<str>,
    },
}

/// Who asks. Only a daemon that forgot to say who is there could bring about that nobody is known.
pub(super) fn known(client: Option<Extension<Client>>) -> Result<Client, Problem> {
    client.map(|Extension(client)| client).ok_or_else(|| Problem::new(Kind::Internal, "the client is not known"))
}

impl Client {
    /// What it may have.
    ///
    /// # Errors
    /// The client went away with the last configuration, and its tokens with it.
    pub fn quota(&self, config: &Config) -> Result<Arc<Quota>, Problem> {
        match self {
            Self::Process { uid, .. } => Ok(config.quota(*uid)),
            Self::Token { client, .. } => config
                .quota_of(client)
                .ok_or_else(|| Problem::new(Kind::Unauthorized, "the client of this token is no more")),
        }
    }

    /// Its user, where it has one.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Process { uid, .. } => Some(*uid),
            Self::Token { .. } => None,
        }
    }

    /// Its group, where it has one.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        match self {
            Self::Process { gid, .. } => Some(*gid),
            Self::Token { .. } => None,
        }
    }

    /// Its process, where it has one in our namespace.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Process { pid, .. } => *pid,
            Self::Token { .. } => None,
        }
    }

    /// The name of the token that it showed, where it did.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        match self {
            Self::Process { .. } => None,
            Self::Token { name, .. } => Some(name),
        }
    }
}
