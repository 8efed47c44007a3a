//! Writes JSON text, piece by piece, into one buffer. The caller keeps the grammar; this keeps the strings valid.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Position;

use crate::negotiate::Format;

/// A piece of JSON under construction.
#[derive(Debug, Default)]
pub(crate) struct Json {
    /// Invariant: UTF-8.
    out: Vec<u8>,
}

impl Json {
    pub(crate) const fn new() -> Self {
        Self { out: Vec::new() }
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn into_string(self) -> String {
        String::from_utf8(self.out).expect("only text was written")
    }

    /// Grammar and keys, as they are.
    pub(crate) fn raw(&mut self, text: &str) -> &mut Self {
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn number(&mut self, mut value: u64) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
        self
    }

    pub(crate) fn boolean(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    /// A string with its quotes.
    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.out.push(b'"');
        self.escaped(text);
        self.out.push(b'"');
        self
    }

    /// A string, or null.
    pub(crate) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.string(text),
            None => self.raw("null"),
        }
    }

    /// Any bytes as a string with its quotes; `Format::Raw` shows what is not UTF-8 as U+FFFD.
    pub(crate) fn bytes(&mut self, bytes: &[u8], format: Format) -> &mut Self {
        self.out.push(b'"');
        match format {
            // Most text is UTF-8 throughout, and checking that at once is several times faster than in chunks.
            Format::Raw => match std::str::from_utf8(bytes) {
                Ok(text) => self.escaped(text),
                Err(_) => {
                    for chunk in bytes.utf8_chunks() {
                        self.escaped(chunk.valid());
                        if !chunk.invalid().is_empty() {
                            self.raw("\u{fffd}");
                        }
                    }
                }
            },
            Format::Base64 => {
                let start = self.out.len();
                let encoded = bytes.len().div_ceil(3) * 4;
                self.out.resize(start + encoded, 0);
                let taken = STANDARD.encode_slice(bytes, &mut self.out[start..]).expect("the room was made for it");
                assert_eq!(taken, encoded, "padded base64 takes 4 bytes for every 3");
            }
        }
        self.out.push(b'"');
        self
    }

    /// `{"seq_num":…,"timestamp":…}`
    pub(crate) fn position(&mut self, position: Position) -> &mut Self {
        self.raw(r#"{"seq_num":"#).number(position.seq_num).raw(r#","timestamp":"#).number(position.timestamp).raw("}")
    }

    fn escaped(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut copied = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if !NEEDS_ESCAPE[usize::from(*byte)] {
                continue;
            }
            self.out.extend_from_slice(&bytes[copied..at]);
            copied = at + 1;
            match *byte {
                b'"' => self.raw("\\\""),
                b'\\' => self.raw("\\\\"),
                b'\n' => self.raw("\\n"),
                b'\r' => self.raw("\\r"),
                b'\t' => self.raw("\\t"),
                0x08 => self.raw("\\b"),
                0x0c => self.raw("\\f"),
                control => {
                    self.raw("\\u00");
                    self.out.extend_from_slice(&[HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]);
                    &mut *self
                }
            };
        }
        self.out.extend_from_slice(&bytes[copied..]);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

const NEEDS_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_what_serde_json_writes(text in any::<String>(), number in any::<u64>()) {
            let mut json = Json::new();
            json.string(&text);
            prop_assert_eq!(json.into_string(), serde_json::to_string(&text).expect("a string"));
            let mut json = Json::new();
            json.number(number);
            prop_assert_eq!(json.into_string(), number.to_string());
        }

        #[test]
        fn bytes_are_shown_lossily_or_in_base64(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut json = Json::new();
            json.bytes(&bytes, Format::Raw);
            let back: String = serde_json::from_str(&json.into_string()).expect("valid");
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
            let mut json = Json::new();
            json.bytes(&bytes, Format::Base64);
            let back: String = serde_json::from_str(&json.into_string()).expect("valid");
            prop_assert_eq!(STANDARD.decode(back).expect("valid"), bytes);
        }
    }
}
