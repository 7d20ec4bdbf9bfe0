//! The allow-file: what may be reached, as a profile's `network` is written, and lines that are added to it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use crate::profile::{AllowForm, AllowList, Destination, DestinationForm, Network};

/// Largest allow-file, in bytes: as many destinations as there may be, with long names.
const FILE_BYTES: u64 = 2 << 20;

/// Why an allow-file can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RulesError {
    /// It can't be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is none.
    #[error("{path} is not there; codesandbox agent allow HOST --allow-file {path} makes it", path = .0.display())]
    Absent(PathBuf),
    /// It is no file, or a large one.
    #[error("{} {}", .0.display(), .1)]
    Strange(PathBuf, &'static str),
    /// It has not the right form.
    #[error("{}: {}", .0.display(), .1)]
    Form(PathBuf, String),
    /// What the command line and it say together is too much.
    #[error("{0}")]
    Together(String),
}

/// An allow-file, which was there.
#[derive(Debug)]
pub(super) struct Rules {
    /// As it was named, and absolute.
    path: PathBuf,
    /// Without links.
    place: PathBuf,
    file: File,
    is_held: bool,
}

impl Rules {
    /// Opens it.
    pub(super) fn open(path: &Path) -> Result<Self, RulesError> {
        let wrong = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => RulesError::Absent(path.to_owned()),
            _ => RulesError::File { path: path.to_owned(), error },
        };
        let place = path.canonicalize().map_err(wrong)?;
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&place).map_err(wrong)?;
        let path = std::path::absolute(path).map_err(wrong)?;
        let found = file.metadata().map_err(wrong)?;
        if !found.is_file() {
            return Err(RulesError::Strange(path, "is no file"));
        }
        Ok(Self { path, place, file, is_held: false })
    }

    /// As it was named.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The links on the way to it: whoever could replace one could have another file taken for this.
    pub(super) fn links(&self) -> Vec<PathBuf> {
        let real = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
        let is_link = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_symlink());
        self.path.ancestors().filter_map(real).filter(is_link).collect()
    }

    /// Where it lies, without links.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Has nothing count but this very file, whatever lies there later.
    pub(super) fn held(self) -> Self {
        Self { is_held: true, ..self }
    }

    /// Whether that is so.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// The very file that was opened.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether another file lies in its place, or none.
    pub(super) fn is_replaced(&self) -> bool {
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
        let now = self.place.symlink_metadata().ok().map(identity);
        now.is_none() || now != self.file.metadata().ok().map(identity)
    }

    /// What it says now.
    pub(super) fn read(&self) -> Result<AllowForm, RulesError> {
        let wrong = |error| RulesError::File { path: self.path.clone(), error };
        let text = if self.is_held {
            // By its number, and from its start, wherever another reader stands.
            let mut bytes = vec![0; usize::try_from(FILE_BYTES).unwrap_or(usize::MAX) + 1];
            let mut length = 0;
            loop {
                let rest = bytes.get_mut(length..).unwrap_or_default();
                match self.file.read_at(rest, length as u64).map_err(wrong)? {
                    0 => break,
                    count => length += count,
                }
            }
            bytes.truncate(length);
            bytes
        } else {
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.place).map_err(wrong)?;
            if !file.metadata().map_err(wrong)?.is_file() {
                return Err(RulesError::Strange(self.path.clone(), "is no file"));
            }
            let mut bytes = Vec::new();
            file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
            bytes
        };
        if text.len() as u64 > FILE_BYTES {
            return Err(RulesError::Strange(self.path.clone(), "is larger than 2 MiB"));
        }
        let text =
            String::from_utf8(text).map_err(|_| RulesError::Strange(self.path.clone(), "is no text in UTF-8"))?;
        parse(&self.path, &text)
    }
}

fn parse(path: &Path, text: &str) -> Result<AllowForm, RulesError> {
    let wrong = |text: String| RulesError::Form(path.to_owned(), text);
    let form: AllowForm = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    checked(form.clone()).map_err(wrong)?;
    Ok(form)
}

fn checked(form: AllowForm) -> Result<AllowList, String> {
    let list = AllowList::try_from(form)?;
    list.check().map_err(|error| error.to_string())?;
    Ok(list)
}

/// What the command line says of the network.
#[derive(Debug)]
pub(super) struct Flags {
    /// What may be reached.
    pub(super) destinations: Vec<DestinationForm>,
    /// Secrets by their variables.
    pub(super) secrets: BTreeMap<String, String>,
}

/// What may be reached by the command line and the file together. Bounds and exceptions are the file's.
pub(super) fn combined(flags: &Flags, rules: Option<&Rules>) -> Result<Network, RulesError> {
    let empty = || AllowForm {
        allow: Vec::new(),
        allow_private: Vec::new(),
        connections: None,
        bytes: None,
        bytes_per_second: None,
        secrets: BTreeMap::new(),
    };
    let mut form = rules.map_or_else(|| Ok(empty()), Rules::read)?;
    let more: Vec<DestinationForm> =
        flags.destinations.iter().filter(|flag| !form.allow.contains(flag)).cloned().collect();
    form.allow.extend(more);
    form.secrets.extend(flags.secrets.clone());
    let told = |error: String| match rules {
        None => RulesError::Together(error),
        Some(rules) => RulesError::Together(format!("--allow and {} together: {error}", rules.path.display())),
    };
    Ok(Network::Allow(Box::new(checked(form).map_err(told)?)))
}

/// Adds destinations to an allow-file and keeps all else in it; how many were not there before. The file is
/// written in place: whoever watches it sees the same file, and a link to it goes on to be one.
pub(super) fn add(path: &Path, destinations: &[DestinationForm]) -> Result<usize, RulesError> {
    let wrong = |error| RulesError::File { path: path.to_owned(), error };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)
        .map_err(wrong)?;
    if !file.metadata().map_err(wrong)?.is_file() {
        return Err(RulesError::Strange(path.to_owned(), "is no file"));
    }
    // Two who add at one time must not lose what the other has added.
    let mut file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| wrong(errno.into()))?;
    let mut text = String::new();
    (&*file).take(FILE_BYTES + 1).read_to_string(&mut text).map_err(wrong)?;
    let (after, added) = extended(path, &text, destinations)?;
    if added > 0 {
        file.rewind().map_err(wrong)?;
        file.write_all(after.as_bytes()).map_err(wrong)?;
        file.set_len(after.len() as u64).map_err(wrong)?;
        file.sync_data().map_err(wrong)?;
    }
    Ok(added)
}

/// The text of an allow-file with more in it.
fn extended(path: &Path, text: &str, destinations: &[DestinationForm]) -> Result<(String, usize), RulesError> {
    let form_error = |text: String| RulesError::Form(path.to_owned(), text);
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| form_error(error.to_string()))?;
    // One with comments alone is to be filled as well.
    let known = if document.is_empty() { Vec::new() } else { parse(path, text)?.allow };
    let same = |one: &DestinationForm, other: &DestinationForm| {
        let both = (Destination::try_from(one.clone()), Destination::try_from(other.clone()));
        matches!(both, (Ok(one), Ok(other)) if one == other)
    };
    let mut added: Vec<&DestinationForm> = Vec::new();
    for destination in destinations {
        let is_there = known.iter().chain(added.iter().copied()).any(|one| same(one, destination));
        if !is_there {
            put(&mut document, destination).map_err(form_error)?;
            added.push(destination);
        }
    }
    let after = document.to_string();
    let (count, is_changed) = (added.len(), !added.is_empty());
    if is_changed {
        parse(path, &after)?;
    }
    Ok((after, count))
}

fn put(document: &mut DocumentMut, destination: &DestinationForm) -> Result<(), String> {
    match document.entry("allow").or_insert_with(|| Item::Value(Value::Array(Array::new()))) {
        Item::Value(Value::Array(array)) => {
            let breaks = |text: Option<&str>| text.is_some_and(|text| text.contains('\n'));
            let before =
                |value: &Value| value.decor().prefix().and_then(toml_edit::RawString::as_str).map(str::to_owned);
            let is_long = array.is_empty()
                || breaks(array.trailing().as_str())
                || array.iter().any(|value| breaks(before(value).as_deref()));
            let mut value = Value::InlineTable(inline(destination));
            if is_long {
                // Comments behind the last value go on to stand there.
                let trailing = array.trailing().as_str().unwrap_or_default().trim_end().to_owned();
                value.decor_mut().set_prefix(format!("{trailing}\n  "));
                array.push_formatted(value);
                array.set_trailing("\n");
                array.set_trailing_comma(true);
            } else {
                array.push(value);
            }
            Ok(())
        }
        Item::ArrayOfTables(tables) => {
            add_table(tables, destination);
            Ok(())
        }
        _ => Err("allow is no list".to_owned()),
    }
}

fn add_table(tables: &mut ArrayOfTables, destination: &DestinationForm) {
    let mut table = Table::new();
    for (key, value) in inline(destination) {
        table.insert(&key, Item::Value(value));
    }
    tables.push(table);
}

fn inline(destination: &DestinationForm) -> InlineTable {
    let mut table = InlineTable::new();
    let texts = [
        ("domain", destination.domain.clone()),
        ("suffix", destination.suffix.clone()),
        ("cidr", destination.cidr.map(|net| net.to_string())),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            table.insert(key, value.into());
        }
    }
    if let Some(ports) = &destination.ports {
        let ports: Array = ports.iter().map(|port| i64::from(*port)).collect();
        table.insert("ports", Value::Array(ports));
    }
    table
}

/// A destination as it stands in the file.
pub(super) fn line(destination: &DestinationForm) -> String {
    format!("{},", Value::InlineTable(inline(destination)).to_string().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str, ports: Option<Vec<u16>>) -> DestinationForm {
        DestinationForm { domain: Some(name.to_owned()), ports, ..DestinationForm::default() }
    }

    fn add_to(text: &str, destinations: &[DestinationForm]) -> Result<(String, usize), RulesError> {
        extended(Path::new("rules.toml"), text, destinations)
    }

    #[test]
    fn what_is_there_is_kept_with_its_comments() {
        let text = "# ours\nconnections = 4 # few\nallow = [\n  # the packages\n  { domain = \"a.example.org\" }, # why\n  # end\n]\n";
        let (after, added) = add_to(text, &[domain("b.example.org", Some(vec![443]))]).unwrap();
        assert_eq!(added, 1);
        assert_eq!(
            after,
            "# ours\nconnections = 4 # few\nallow = [\n  # the packages\n  { domain = \"a.example.org\" }, # why\n  # end\n  \
             { domain = \"b.example.org\", ports = [443] },\n]\n"
        );
    }

    #[test]
    fn a_file_that_is_empty_or_short_or_written_in_tables_is_added_to_as_well() {
        for text in [
            "",
            "# nothing yet\n",
            "allow = []\n",
            "allow = [{ domain = \"a.example.org\" }]\n",
            "[[allow]]\ndomain = \"a.example.org\"\n",
        ] {
            let (after, added) = add_to(text, &[domain("b.example.org", None), domain("c.example.org", None)]).unwrap();
            assert_eq!(added, 2, "{text}");
            let names = parse(Path::new("x"), &after).unwrap().allow.len();
            assert_eq!(names, 2 + text.matches("a.example.org").count(), "{after}");
        }
    }

    #[test]
    fn what_is_there_already_is_not_added_twice() {
        let text = "allow = [{ domain = \"a.example.org\" }]\n";
        let same = [domain("A.example.org.", Some(vec![443, 80])), domain("a.example.org", None)];
        assert_eq!(add_to(text, &same).unwrap(), (text.to_owned(), 0));
    }

    #[test]
    fn nothing_is_added_to_what_can_not_be_read_and_nothing_that_can_not_be() {
        assert!(add_to("allow = 3\n", &[domain("a.example.org", None)]).is_err());
        assert!(add_to("allow = [", &[domain("a.example.org", None)]).is_err());
        assert!(add_to("", &[domain("*.example.org", None)]).is_err());
    }

    #[test]
    fn adding_writes_in_place_and_not_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.toml");
        assert_eq!(add(&path, &[domain("a.example.org", None)]).unwrap(), 1);
        let rules = Rules::open(&path).unwrap().held();
        assert_eq!(add(&path, &[domain("b.example.org", None)]).unwrap(), 1);
        assert!(!rules.is_replaced());
        assert_eq!(rules.read().unwrap().allow.len(), 2);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(add(&link, &[domain("c.example.org", None)]).is_err());
        std::fs::rename(directory.path().join("link"), &path).unwrap();
        assert!(rules.is_replaced());
        assert_eq!(rules.read().unwrap().allow.len(), 2);
    }

    #[test]
    fn flags_and_file_are_bounded_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.toml");
        let many: Vec<String> = (0..4096).map(|n| format!("{{ domain = \"h{n}.example.org\" }}")).collect();
        std::fs::write(&path, format!("allow = [{}]", many.join(",\n"))).unwrap();
        let rules = Rules::open(&path).unwrap();
        let flags = |name: &str| Flags { destinations: vec![domain(name, None)], secrets: BTreeMap::new() };
        assert!(combined(&flags("h1.example.org"), Some(&rules)).is_ok());
        let error = combined(&flags("more.example.org"), Some(&rules)).unwrap_err().to_string();
        assert!(error.contains("4097 destinations"), "{error}");
    }
}
