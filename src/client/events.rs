//! A streamed answer, event by event.

use std::marker::PhantomData;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use serde::de::DeserializeOwned;

use super::connection::Lines;
use super::{ClientError, understood};

/// Events as they happen. Dropped, it hangs up.
#[derive(Debug)]
pub struct Events<T> {
    lines: Lines,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Events<T> {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines, kind: PhantomData }
    }

    /// The next event; `None` at the end of the answer. Nothing is lost where this is given up in the middle.
    ///
    /// # Errors
    /// The connection broke, or what came is no such event.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        while let Some(line) = self.lines.next().await? {
            if !line.is_empty() {
                return understood(&line).map(Some);
            }
        }
        Ok(None)
    }

    /// The same as a stream, which ends behind the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<T, ClientError>> {
        try_unfold(self, async |mut events| Ok(events.next().await?.map(|event| (event, events))))
    }
}
