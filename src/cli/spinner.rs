//! A sign of life on a terminal while a program waits or compiles, gone before any output.

use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep_until};

/// What takes less than this needs no sign of life, and would only flicker.
const PATIENCE: Duration = Duration::from_millis(150);
const FRAME: Duration = Duration::from_millis(100);

/// The spinner; draws nothing where standard error is no terminal.
pub(super) struct Spinner {
    /// When to show it; `None` once it is shown or gone for good.
    due: Option<Instant>,
    bar: Option<ProgressBar>,
    message: &'static str,
}

impl Spinner {
    /// One that is not seen yet.
    pub(super) fn new() -> Self {
        Self { due: Some(Instant::now() + PATIENCE), bar: None, message: "waiting for a sandbox" }
    }

    /// Waits for something, and shows itself when that takes long.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(due) = self.due {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = sleep_until(due) => self.show(),
            }
        }
        work.await
    }

    fn show(&mut self) {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::default_spinner());
        bar.set_message(self.message);
        bar.enable_steady_tick(FRAME);
        self.bar = Some(bar);
        self.due = None;
    }

    /// Says what goes on now.
    pub(super) fn say(&mut self, message: &'static str) {
        self.message = message;
        if let Some(bar) = &self.bar {
            bar.set_message(message);
        }
    }

    /// Removes it from the screen, for good: from now on the screen is the program's.
    pub(super) fn clear(&mut self) {
        self.due = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.clear();
    }
}
