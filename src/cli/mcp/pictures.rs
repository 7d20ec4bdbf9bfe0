//! Images among results: told by their first bytes, and few enough for whoever is to look at them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{ContentBlock, ResourceContents};

/// Most images in one result.
const IMAGES: usize = 4;
/// Largest image in a result, in bytes.
const IMAGE_BYTES: usize = 1 << 20;
/// Most bytes of all images of a result together.
const ALL_BYTES: usize = 3 << 20;
/// Longest drawing in SVG, which is told as text.
const DRAWING_BYTES: usize = 64 << 10;
/// What a drawing in SVG is called.
const SVG: &str = "image/svg+xml";

/// Media type of an image that models can look at.
pub(super) fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// Media type of a file by its first bytes, and where these say nothing by its name.
pub(super) fn media(path: &str, bytes: &[u8]) -> &'static str {
    let text = std::str::from_utf8(bytes).is_ok();
    match (kind(bytes), path.rsplit_once('.').map(|(_, extension)| extension)) {
        (Some(image), _) => image,
        (None, Some("svg")) if text => SVG,
        (None, Some("json")) if text => "application/json",
        (None, _) if text => "text/plain",
        (None, _) => "application/octet-stream",
    }
}

/// The images of one result.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    blocks: Vec<ContentBlock>,
    bytes: usize,
}

impl Pictures {
    /// Adds a file, if it is an image and there is room; whether it was added.
    pub(super) fn add(&mut self, uri: &str, path: &str, bytes: &[u8]) -> bool {
        let block = match kind(bytes) {
            Some(kind) if bytes.len() <= IMAGE_BYTES => ContentBlock::image(STANDARD.encode(bytes), kind),
            None if media(path, bytes) == SVG && bytes.len() <= DRAWING_BYTES => {
                // Not as an image: models look at pixels, and clients that pass it on have the whole request refused.
                let text = String::from_utf8_lossy(bytes);
                ContentBlock::resource(ResourceContents::text(text, uri).with_mime_type(SVG))
            }
            _ => return false,
        };
        let fits = self.blocks.len() < IMAGES && self.bytes + bytes.len() <= ALL_BYTES;
        if fits {
            self.bytes += bytes.len();
            self.blocks.push(block);
        }
        fits
    }

    /// As a result has them.
    pub(super) fn blocks(self) -> Vec<ContentBlock> {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

    #[test]
    fn images_are_told_by_their_bytes_not_by_their_names() {
        assert_eq!(kind(PNG), Some("image/png"));
        assert_eq!(kind(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(kind(b"GIF89a"), Some("image/gif"));
        assert_eq!(kind(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        assert_eq!(media("x.png", b"no image"), "text/plain");
        assert_eq!(media("x.txt", PNG), "image/png");
        assert_eq!(media("x.svg", b"<svg/>"), SVG);
        assert_eq!(media("x.svg", b"\xff"), "application/octet-stream");
    }

    #[test]
    fn a_result_has_few_images_and_small_ones() {
        let mut pictures = Pictures::default();
        assert!(!pictures.add("u", "a.txt", b"text"));
        let large = [PNG, &vec![0; IMAGE_BYTES]].concat();
        assert!(!pictures.add("u", "large.png", &large));
        for _ in 0..IMAGES {
            assert!(pictures.add("u", "a.png", PNG));
        }
        assert!(!pictures.add("u", "a.png", PNG));
        assert_eq!(pictures.blocks().len(), IMAGES);
    }

    #[test]
    fn all_images_together_have_a_bound() {
        let mut pictures = Pictures::default();
        let image = [PNG, &vec![0; IMAGE_BYTES - PNG.len()]].concat();
        let added = (0..IMAGES).filter(|_| pictures.add("u", "a.png", &image)).count();
        assert_eq!(added, ALL_BYTES / IMAGE_BYTES);
    }

    #[test]
    fn a_drawing_is_text() {
        let mut pictures = Pictures::default();
        assert!(pictures.add("codesandbox://x", "a.svg", b"<svg/>"));
        assert!(matches!(pictures.blocks().as_slice(), [ContentBlock::Resource(_)]));
    }
}
