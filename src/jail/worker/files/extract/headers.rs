//! Extended headers of tar archives: long names of GNU tar, and records of pax(1).

use std::io::Read;

use tar::{Entry, EntryType, PaxExtensions};

use super::super::Stop;
use crate::plan::PATH_BYTES;
use crate::plan::files::{FileError, HEADER_BYTES, Irregularity};

/// What extended headers say of the entry behind them.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) sparse: bool,
}

impl Extended {
    /// Reads an entry that is an extended header; tells whether it was one.
    pub(super) fn take_in<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, Stop> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.name = Some(until_nul(read(entry)?)),
            EntryType::GNULongLink => self.link = Some(until_nul(read(entry)?)),
            EntryType::XHeader => self.records(&read(entry)?)?,
            // It is about every entry, and says nothing that is looked at.
            EntryType::XGlobalHeader => drop(read(entry)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What was said of the entry that is here now; of the next one nothing is known yet.
    pub(super) fn finish(&mut self) -> Self {
        std::mem::take(self)
    }

    fn records(&mut self, records: &[u8]) -> Result<(), Stop> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(|_| FileError::Damaged)?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(number.ok_or(FileError::Damaged)?);
                }
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// An extended header, which has a limit.
fn read<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, Stop> {
    let size = entry.size();
    if size > HEADER_BYTES {
        let entry = entry.header().path_bytes().iter().copied().take(PATH_BYTES).collect();
        return Err(FileError::Irregular { entry, why: Irregularity::Header }.into());
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(FileError::Damaged.into());
    }
    Ok(bytes)
}

/// GNU tar puts a NUL byte behind a long name.
fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}
