//! Watches the allow-file while the program runs; inotify(7).

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::rules::Rules;
use crate::sys::socket;

/// What is heard of a directory: a file in it is whole, or takes another's place.
const IN_DIRECTORY: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_MOVED_TO);
/// What is heard of a file that alone counts; its number of names is one of its attributes.
const OF_FILE: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_DELETE_SELF);

/// A watch on a file.
pub(super) struct Watch {
    inotify: Inotify,
    ready: AsyncFd<OwnedFd>,
    /// Names in watched directories that mean it; any event does where there are none.
    names: Vec<OsString>,
}

impl Watch {
    /// Begins to watch. Needs a tokio runtime.
    pub(super) fn start(rules: &Rules) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut names = Vec::new();
        if rules.is_held() {
            let file = PathBuf::from(format!("/proc/self/fd/{}", rules.file().as_raw_fd()));
            inotify.add_watch(&file, OF_FILE)?;
        } else {
            // Its directory, since an editor may put another file in its place.
            let place = rules.place();
            inotify.add_watch(place.parent().unwrap_or(place), IN_DIRECTORY)?;
            names.extend(place.file_name().map(OsString::from));
        }
        let ready = socket::watched(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { inotify, ready, names })
    }

    /// Waits until it may have changed. Nothing is lost where this is given up in the middle.
    pub(super) async fn changed(&self) -> std::io::Result<()> {
        loop {
            let events = self
                .ready
                .async_io(Interest::READABLE, |_| self.inotify.read_events().map_err(std::io::Error::from))
                .await?;
            let is_meant =
                |name: Option<&OsString>| self.names.is_empty() || name.is_none_or(|name| self.names.contains(name));
            if events.iter().any(|event| is_meant(event.name.as_ref())) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(watch: &Watch, runtime: &tokio::runtime::Runtime) {
        let limit = std::time::Duration::from_secs(20);
        runtime.block_on(async { tokio::time::timeout(limit, watch.changed()).await }).unwrap().unwrap();
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_file_that_is_written_or_replaced_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.toml");
        std::fs::write(&path, "allow = []").unwrap();
        let runtime = runtime();
        let _entered = runtime.enter();
        let watch = Watch::start(&Rules::open(&path).unwrap()).unwrap();
        std::fs::write(&path, "allow = []\n").unwrap();
        wait_for(&watch, &runtime);
        std::fs::write(directory.path().join("other"), "").unwrap();
        std::fs::rename(directory.path().join("other"), &path).unwrap();
        wait_for(&watch, &runtime);
    }

    #[test]
    fn a_file_that_alone_counts_is_noticed_when_it_is_written_or_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.toml");
        std::fs::write(&path, "allow = []").unwrap();
        let runtime = runtime();
        let _entered = runtime.enter();
        let rules = Rules::open(&path).unwrap().held();
        let watch = Watch::start(&rules).unwrap();
        std::fs::write(&path, "allow = []\n").unwrap();
        wait_for(&watch, &runtime);
        assert!(!rules.is_replaced());
        std::fs::remove_file(&path).unwrap();
        wait_for(&watch, &runtime);
        assert!(rules.is_replaced());
    }
}
