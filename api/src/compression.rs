//! zstd and gzip, bounded: what comes out is never larger than the caller allows (s2-wire.md 1.11, 2.4).

use std::io::{Read as _, Write as _};

use zstd::zstd_safe;

/// How a body or a frame is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One zstd frame.
    Zstd,
    /// One gzip member.
    Gzip,
}

impl Compression {
    /// The word in `content-encoding`, if there is one.
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
        }
    }
}

/// Compresses payloads with one algorithm, keeping its context from one to the next.
pub struct Compressor {
    compression: Compression,
    /// Made at the first payload that needs it: most sessions of small batches never do.
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// For one session, or for one body.
    #[must_use]
    pub const fn new(compression: Compression) -> Self {
        Self { compression, zstd: None }
    }

    /// The algorithm, for the flags of what [`Compressor::compress`] returns.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// The compressed form of `parts`, one behind the other; `None` when they should go as they are: no algorithm,
    /// fewer than [`COMPRESSED_BYTES_MIN`] bytes, or nothing gained.
    pub fn compress(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let plain_bytes: usize = parts.iter().map(|p| p.len()).sum();
        if plain_bytes < COMPRESSED_BYTES_MIN {
            return None;
        }
        let compressed = match self.compression {
            Compression::None => None,
            Compression::Zstd => self.zstd(parts),
            Compression::Gzip => gzip(parts),
        };
        compressed.filter(|c| c.len() < plain_bytes)
    }

    fn zstd(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        let zstd = self.zstd.as_mut()?;
        match parts {
            [one] => zstd.compress(one).ok(),
            many => zstd.compress(&many.concat()).ok(),
        }
    }
}

/// Undoes compressions, keeping its context from one to the next.
#[derive(Default)]
pub struct Decompressor {
    /// Made at the first zstd payload.
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// The plain form of `bytes`.
    ///
    /// # Errors
    /// When they are damaged or more than `bytes_max` would come out: a text for the client.
    pub fn decompress(
        &mut self,
        compression: Compression,
        bytes: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<u8>, &'static str> {
        match compression {
            Compression::None if bytes.len() > bytes_max => Err(TOO_LARGE),
            Compression::None => Ok(bytes.to_vec()),
            Compression::Zstd => self.unzstd(bytes, bytes_max),
            Compression::Gzip => gunzip(bytes, bytes_max),
        }
    }

    /// One call with all the room there may be: unlike streaming, it needs no window, whose size a hostile frame
    /// could set to 128 MiB.
    fn unzstd(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, &'static str> {
        let mut plain = Vec::with_capacity(match announced_bytes(bytes) {
            Some(announced) => usize::try_from(announced).ok().filter(|n| *n <= bytes_max).ok_or(TOO_LARGE)?,
            None => bytes_max,
        });
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Decompressor::new().ok();
        }
        let zstd = self.zstd.as_mut().ok_or(ZSTD_DAMAGED)?;
        // Too small a room is not told from damage: it takes a frame that hid or belied its size.
        zstd.decompress_to_buffer(bytes, &mut plain).map_err(|_| ZSTD_DAMAGED)?;
        if plain.len() < plain.capacity() / 2 {
            plain.shrink_to_fit();
        }
        Ok(plain)
    }
}

/// The plain size that a single zstd frame announces.
fn announced_bytes(bytes: &[u8]) -> Option<u64> {
    let first_frame_bytes = zstd_safe::find_frame_compressed_size(bytes).ok()?;
    if first_frame_bytes != bytes.len() {
        return None;
    }
    zstd_safe::get_frame_content_size(bytes).ok().flatten()
}

fn gzip(parts: &[&[u8]]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for part in parts {
        encoder.write_all(part).ok()?;
    }
    encoder.finish().ok()
}

fn gunzip(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, &'static str> {
    let mut plain = Vec::new();
    let decoder = flate2::bufread::MultiGzDecoder::new(bytes);
    let plain_bytes = decoder.take(bytes_max as u64 + 1).read_to_end(&mut plain).map_err(|_| GZIP_DAMAGED)?;
    if plain_bytes > bytes_max { Err(TOO_LARGE) } else { Ok(plain) }
}

/// Payloads smaller than this are never compressed.
pub const COMPRESSED_BYTES_MIN: usize = 1024;
/// Batches are compressed while a client waits, so the fastest regular level.
const ZSTD_LEVEL: i32 = 1;
const TOO_LARGE: &str = "decompressed payload exceeds the limit";
const ZSTD_DAMAGED: &str = "zstd: the payload is damaged or exceeds the limit";
const GZIP_DAMAGED: &str = "gzip: the payload is damaged";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Compression; 2] = [Compression::Zstd, Compression::Gzip];

    proptest! {
        #[test]
        fn what_is_compressed_reads_back(word in prop::collection::vec(any::<u8>(), 1..20), times in 1..2000usize) {
            let plain = word.repeat(times);
            for compression in BOTH {
                let mut compressor = Compressor::new(compression);
                let (front, back) = plain.split_at(plain.len() / 3);
                let Some(compressed) = compressor.compress(&[front, back]) else { continue };
                prop_assert!(plain.len() >= COMPRESSED_BYTES_MIN);
                let mut decompressor = Decompressor::default();
                let back = decompressor.decompress(compression, &compressed, plain.len());
                prop_assert_eq!(back.as_deref(), Ok(&plain[..]));
                prop_assert!(decompressor.decompress(compression, &compressed, plain.len() - 1).is_err());
            }
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for (compression, magic) in BOTH.into_iter().zip([&[0x28, 0xb5, 0x2f, 0xfd][..], &[0x1f, 0x8b, 8, 0]]) {
                let _ = Decompressor::default().decompress(compression, &bytes, 1000);
                let _ = Decompressor::default().decompress(compression, &[magic, &bytes].concat(), 1000);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let plain = vec![0u8; 8 << 20];
        for compression in BOTH {
            let bomb = Compressor::new(compression).compress(&[&plain]).expect("compressible");
            assert!(bomb.len() < plain.len() / 100);
            assert!(Decompressor::default().decompress(compression, &bomb, 1 << 20).is_err());
        }
        let streamed = zstd::stream::encode_all(&plain[..], 1).expect("in memory");
        assert_eq!(announced_bytes(&streamed), None, "a streaming encoder does not know the size");
        assert_eq!(Decompressor::default().decompress(Compression::Zstd, &streamed, 1 << 20), Err(ZSTD_DAMAGED));
        assert!(Decompressor::default().decompress(Compression::Zstd, &streamed, plain.len()).is_ok());
    }

    #[test]
    fn small_and_incompressible_payloads_go_as_they_are() {
        let small = [0u8; COMPRESSED_BYTES_MIN - 1];
        let mut state = 1u64;
        let noise: Vec<u8> = (0..4096)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        for compression in BOTH {
            assert_eq!(Compressor::new(compression).compress(&[&small]), None);
            assert_eq!(Compressor::new(compression).compress(&[&noise]), None);
        }
        assert_eq!(Compressor::new(Compression::None).compress(&[&[0; 4096]]), None);
    }
}
