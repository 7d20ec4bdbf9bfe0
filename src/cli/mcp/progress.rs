//! What a client is told while a call goes on, if it asked to be told.

use std::time::{Duration, Instant};

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};

use super::excerpt::Excerpt;

/// Least time between two messages.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest message, in bytes.
const MESSAGE_BYTES: usize = 1024;

/// Messages about one call.
pub(super) struct Progress {
    client: Option<(Peer<RoleServer>, ProgressToken)>,
    told: u32,
    last: Option<Instant>,
    waiting: Option<Excerpt>,
}

impl Progress {
    /// For the one who called.
    pub(super) fn of(context: &RequestContext<RoleServer>) -> Self {
        let client = context.meta.get_progress_token().map(|token| (context.peer.clone(), token));
        Self { client, told: 0, last: None, waiting: None }
    }

    /// A step of ours.
    pub(super) async fn say(&mut self, message: &str) {
        self.tell(message.to_owned()).await;
    }

    /// What the program prints. Pieces that come too fast are put together, and cut where they are too much.
    pub(super) async fn printed(&mut self, bytes: &[u8]) {
        if self.client.is_none() {
            return;
        }
        self.waiting.get_or_insert_with(|| Excerpt::new(MESSAGE_BYTES)).push(bytes);
        if self.last.is_none_or(|last| last.elapsed() >= PAUSE)
            && let Some(excerpt) = self.waiting.take()
        {
            self.last = Some(Instant::now());
            self.tell(excerpt.told().text).await;
        }
    }

    async fn tell(&mut self, message: String) {
        let Some((peer, token)) = &self.client else { return };
        self.told += 1;
        let notice = ProgressNotificationParam::new(token.clone(), f64::from(self.told)).with_message(message);
        if peer.notify_progress(notice).await.is_err() {
            // Nobody listens any more; the end of the call is told in its own way.
            self.client = None;
        }
    }
}
