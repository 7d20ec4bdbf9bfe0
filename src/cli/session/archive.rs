//! Packing a directory of this machine into a tar stream.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::SessionError;
use crate::cli::complain;
use crate::cli::text::harmless;

/// Most directories within each other.
const DEPTH: usize = 128;

/// Writes everything in a directory: files, directories and links as they are; times, owners and
/// whatever is no file are left out.
pub(super) fn pack(directory: &Path, out: impl Write) -> Result<(), SessionError> {
    let mut builder = Builder::new(out);
    pack_below(&mut builder, directory, Path::new(""), 0)?;
    builder.finish().map_err(|error| failed(directory, error))
}

fn pack_below<W: Write>(
    builder: &mut Builder<W>,
    directory: &Path,
    inside: &Path,
    depth: usize,
) -> Result<(), SessionError> {
    if depth > DEPTH {
        return Err(failed(directory, std::io::Error::other(format!("more than {DEPTH} directories deep"))));
    }
    let mut entries = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>())
        .map_err(|error| failed(directory, error))?;
    // The same directory is the same archive.
    entries.sort();
    for name in entries {
        let (path, inside) = (directory.join(&name), inside.join(&name));
        let known = path.symlink_metadata().map_err(|error| failed(&path, error))?;
        if known.is_dir() {
            add(builder, &path, &inside, EntryType::Directory, 0o755)?;
            pack_below(builder, &path, &inside, depth + 1)?;
        } else if known.is_symlink() {
            let target = fs::read_link(&path).map_err(|error| failed(&path, error))?;
            let mut header = header(EntryType::Symlink, 0o777);
            builder.append_link(&mut header, &inside, &target).map_err(|error| failed(&path, error))?;
        } else if known.is_file() {
            let mode = if known.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            let file = File::open(&path).map_err(|error| failed(&path, error))?;
            let mut header = header(EntryType::Regular, mode);
            // What the header says must follow, also where somebody writes to the file meanwhile.
            header.set_size(known.len());
            let content = std::io::Read::take(Padded { file }, known.len());
            builder.append_data(&mut header, &inside, content).map_err(|error| failed(&path, error))?;
        } else {
            complain(&format!("{} is left out: it is no file", harmless(&path.display().to_string())));
        }
    }
    Ok(())
}

fn add<W: Write>(
    builder: &mut Builder<W>,
    path: &Path,
    inside: &Path,
    kind: EntryType,
    mode: u32,
) -> Result<(), SessionError> {
    builder.append_data(&mut header(kind, mode), inside, std::io::empty()).map_err(|error| failed(path, error))
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// A file, with zeros after its end: one that shrinks while it is read must not shift what follows.
struct Padded {
    file: File,
}

impl std::io::Read for Padded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.file.read(buffer)? {
            0 => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            count => Ok(count),
        }
    }
}

fn failed(path: &Path, error: std::io::Error) -> SessionError {
    SessionError::File { path: PathBuf::from(path), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_packed_with_links_as_links() {
        let directory = tempfile::tempdir().unwrap();
        let long = "n".repeat(150);
        fs::create_dir(directory.path().join("d")).unwrap();
        fs::write(directory.path().join("d").join(&long), "text").unwrap();
        std::os::unix::fs::symlink("d", directory.path().join("l")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("s")).unwrap();
        let mut bytes = Vec::new();
        pack(directory.path(), &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().entry_type(), entry.size())
        });
        let expected = [
            ("d".to_owned(), EntryType::Directory, 0),
            (format!("d/{long}"), EntryType::Regular, 4),
            ("l".to_owned(), EntryType::Symlink, 0),
        ];
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_file_that_shrinks_is_as_long_as_was_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "ab").unwrap();
        let mut bytes = Vec::new();
        let padded = Padded { file: File::open(file.path()).unwrap() };
        std::io::Read::read_to_end(&mut std::io::Read::take(padded, 5), &mut bytes).unwrap();
        assert_eq!(bytes, b"ab\0\0\0");
    }
}
