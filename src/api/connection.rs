//! The connection that a request came on: what goes on with it behind the answer, and when that must end.

use std::convert::Infallible;
use std::future::Future;

use tokio::sync::{mpsc, watch};

/// A connection, as requests carry it. Whoever takes it over, as WebSockets do, keeps this until done.
#[derive(Debug, Clone)]
pub struct Connection {
    stopping: watch::Receiver<bool>,
    _alive: mpsc::Sender<Infallible>,
}

/// Tells when nobody keeps a [`Connection`] any more.
#[derive(Debug)]
pub struct Kept {
    alive: mpsc::Receiver<Infallible>,
}

impl Connection {
    /// A connection that must end when `stopping` becomes true, or nobody is there to say so.
    #[must_use]
    pub fn new(stopping: watch::Receiver<bool>) -> (Self, Kept) {
        let (sender, alive) = mpsc::channel(1);
        (Self { stopping, _alive: sender }, Kept { alive })
    }

    /// Comes to its end when the service stops.
    pub(super) fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stopping.clone();
        async move { drop(stopping.wait_for(|stopping| *stopping).await) }
    }
}

impl Kept {
    /// Comes to its end when nobody keeps the connection any more.
    pub async fn until_released(mut self) {
        // Nothing is ever sent, so this is the end of the last sender.
        let _: Option<Infallible> = self.alive.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_connection_is_released_when_the_last_that_keeps_it_is_gone() {
        let (_sender, stopping) = watch::channel(false);
        let (connection, kept) = Connection::new(stopping);
        let other = connection.clone();
        drop(connection);
        let released = kept.until_released();
        tokio::pin!(released);
        assert!(released.as_mut().now_or_never().is_none());
        drop(other);
        released.await;
    }

    #[tokio::test]
    async fn a_connection_learns_that_the_service_stops() {
        let (sender, stopping) = watch::channel(false);
        let (connection, _kept) = Connection::new(stopping);
        let told = connection.stopping();
        tokio::pin!(told);
        assert!(told.as_mut().now_or_never().is_none());
        sender.send_replace(true);
        told.await;
    }
}
