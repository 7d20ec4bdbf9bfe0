//! Archives that are made to do harm, each beside one that is as good as it looks.

use std::io::Write;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

const BOUNDS: Bounds = Bounds { entries: 8, bytes: 2 << 20 };

fn archive(write: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    write(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn file(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, content: &[u8]) {
    zip.start_file(name, SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
}

/// The same bytes in other places, as no honest program writes them.
fn replaced(mut archive: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        (0..=archive.len() - from.len()).filter(|place| &archive[*place..place + from.len()] == from).collect();
    assert!(!places.is_empty());
    for place in places {
        archive[place..place + from.len()].copy_from_slice(to);
    }
    archive
}

#[test]
fn files_come_out_with_their_names_and_modes_and_directories_do_not() {
    let zip = archive(|zip| {
        zip.add_directory("lib/", SimpleFileOptions::default()).unwrap();
        file(zip, "lib/a.py", b"A = 1\n");
        zip.start_file("./run", SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        zip.write_all(b"x").unwrap();
    });
    let files = extract(&zip, BOUNDS).unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!((&*files[0].path, &*files[0].content, files[0].executable), ("lib/a.py", &b"A = 1\n"[..], false));
    assert_eq!((&*files[1].path, files[1].executable), ("run", true));
}

#[test]
fn what_is_no_archive_is_refused() {
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let whole = archive(|zip| {
        zip.start_file("a", stored).unwrap();
        zip.write_all(b"text").unwrap();
    });
    assert!(extract(&whole, BOUNDS).is_ok());
    for bytes in [&b""[..], b"PK", b"print(1)", &whole[..whole.len() - 5]] {
        assert_eq!(extract(bytes, BOUNDS), Err(ArchiveError::Invalid));
    }
    // The sum over the file's bytes is another then.
    assert_eq!(extract(&replaced(whole, b"text", b"test"), BOUNDS), Err(ArchiveError::Invalid));
}

#[test]
fn bytes_and_entries_have_a_bound() {
    let noise: Vec<u8> = (0..u32::try_from(BOUNDS.bytes).unwrap() / 4)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let most = archive(|zip| file(zip, "a", &noise));
    assert_eq!(extract(&most, BOUNDS).unwrap()[0].content.len() as u64, BOUNDS.bytes);
    let more = archive(|zip| {
        file(zip, "a", &noise);
        file(zip, "b", b"x");
    });
    assert_eq!(extract(&more, BOUNDS), Err(ArchiveError::Bytes(BOUNDS.bytes)));
    let many = |count: usize| archive(|zip| (0..count).for_each(|number| file(zip, &number.to_string(), b"")));
    assert_eq!(extract(&many(8), BOUNDS).unwrap().len(), 8);
    assert_eq!(extract(&many(9), BOUNDS), Err(ArchiveError::Entries(8)));
}

#[test]
fn a_bomb_does_not_burst() {
    let zeros = |count: usize| archive(|zip| file(zip, "a", &vec![0; count]));
    assert!(extract(&zeros(1 << 20), BOUNDS).is_ok());
    assert_eq!(extract(&zeros(3 << 19), BOUNDS), Err(ArchiveError::Bomb));
    // An entry that says of itself that it is small.
    let lies = replaced(zeros(3 << 19), &(3u32 << 19).to_le_bytes(), &8u32.to_le_bytes());
    assert!(matches!(extract(&lies, BOUNDS), Err(ArchiveError::Bomb | ArchiveError::Invalid)));
}

#[test]
fn entries_that_share_their_bytes_are_refused() {
    let zip = archive(|zip| {
        file(zip, "a", &[7; 1000]);
        zip.shallow_copy_file("a", "b").unwrap();
    });
    assert_eq!(extract(&zip, BOUNDS), Err(ArchiveError::Bomb));
}

#[test]
fn links_and_devices_are_refused() {
    let link = archive(|zip| zip.add_symlink("a", "/etc/passwd", SimpleFileOptions::default()).unwrap());
    assert_eq!(extract(&link, BOUNDS), Err(ArchiveError::Special));
    // The mode is the upper half of the attributes in the list of files.
    let plain = archive(|zip| {
        zip.start_file("a", SimpleFileOptions::default().unix_permissions(0o644)).unwrap();
    });
    assert!(extract(&plain, BOUNDS).is_ok());
    for kind in [0o020_000u32, 0o060_000, 0o010_000, 0o140_000] {
        let (from, to) = ((0o100_644u32 << 16).to_le_bytes(), ((kind | 0o644) << 16).to_le_bytes());
        assert_eq!(extract(&replaced(plain.clone(), &from, &to), BOUNDS), Err(ArchiveError::Special), "{kind:o}");
    }
}

#[test]
fn one_name_stands_once() {
    let two = archive(|zip| {
        file(zip, "first", b"1");
        file(zip, "other", b"2");
    });
    assert!(extract(&two, BOUNDS).is_ok());
    assert_eq!(extract(&replaced(two, b"other", b"first"), BOUNDS), Err(ArchiveError::Twice));
    let disguised = archive(|zip| {
        file(zip, "a", b"1");
        file(zip, "./a", b"2");
    });
    assert_eq!(extract(&disguised, BOUNDS), Err(ArchiveError::Twice));
}

#[test]
fn an_encrypted_entry_is_refused() {
    let plain = archive(|zip| file(zip, "a", b"1"));
    // Bit 0 of the flags, in both headers: after the signature and the versions.
    let mut encrypted = plain.clone();
    for (signature, flags) in [(&b"PK\x03\x04"[..], 6), (LIST_ENTRY, 8)] {
        let place = plain.windows(4).position(|window| window == signature).unwrap();
        encrypted[place + flags] |= 1;
    }
    assert!(matches!(extract(&encrypted, BOUNDS), Err(ArchiveError::Encrypted | ArchiveError::Invalid)));
}
