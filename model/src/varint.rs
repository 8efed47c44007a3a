//! Protobuf varints and the few tags we read and write by hand, because records are stored as they are read.

/// Bytes that `value` takes as a varint: 1 to 10.
#[must_use]
pub const fn len(value: u64) -> usize {
    // 0 takes one byte as well; every further 7 bits take one more.
    ((63 - (value | 1).leading_zeros()) / 7 + 1) as usize
}

/// Writes `value` at the start of `out` and returns how many bytes it took.
///
/// # Panics
/// When `out` is shorter than [`len`]`(value)`: the caller sized it.
pub fn put(out: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = (value & 0x7f) as u8;
    at + 1
}

/// Appends `value` to `out`.
pub fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Reads a varint at `at` and returns it with the position behind it; `None` when it is cut off or over 64 bits.
#[must_use]
pub fn get(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, at + i + 1));
        }
    }
    None
}

/// One field of a protobuf message, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2, with the position of its first byte in the message.
    Bytes(&'a [u8], usize),
    /// Wire type 5.
    Fixed32(u32),
}

/// Walks the fields of a protobuf message; groups (wire types 3 and 4) are refused, as in proto3.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A message that is cut off or not protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Fields<'a> {
    /// Starts at the first field of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where in the message the next field begins; its length when all have been walked.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (key, at) = get(self.bytes, self.at)?;
        let number = u32::try_from(key >> 3).ok().filter(|n| *n != 0)?;
        match key & 7 {
            0 => {
                let (value, end) = get(self.bytes, at)?;
                self.at = end;
                Some((number, Value::Varint(value)))
            }
            1 => {
                let raw = self.bytes.get(at..at.checked_add(8)?)?;
                self.at = at + 8;
                Some((number, Value::Fixed64(u64::from_le_bytes(raw.try_into().ok()?))))
            }
            2 => {
                let (len, start) = get(self.bytes, at)?;
                let end = start.checked_add(usize::try_from(len).ok()?)?;
                let raw = self.bytes.get(start..end)?;
                self.at = end;
                Some((number, Value::Bytes(raw, start)))
            }
            5 => {
                let raw = self.bytes.get(at..at.checked_add(4)?)?;
                self.at = at + 4;
                Some((number, Value::Fixed32(u32::from_le_bytes(raw.try_into().ok()?))))
            }
            _ => None,
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.at = self.bytes.len();
        }
        Some(field.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_reads_back_at_every_length() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1u64 << bits) - 1, u64::MAX >> bits] {
                let mut out = Vec::new();
                push(&mut out, value);
                assert_eq!(out.len(), len(value));
                let mut fixed = [0u8; 10];
                assert_eq!(put(&mut fixed, value), out.len());
                assert_eq!(&fixed[..out.len()], &out[..]);
                assert_eq!(get(&out, 0), Some((value, out.len())));
                assert_eq!(get(&out[..out.len() - 1], 0), None, "a cut varint is refused");
            }
        }
    }

    #[test]
    fn a_varint_over_64_bits_is_refused() {
        assert_eq!(get(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], 0), None);
        assert_eq!(get(&[0xff; 11], 0), None);
    }

    #[test]
    fn a_length_beyond_the_message_is_refused() {
        assert_eq!(Fields::new(&[0x0a, 0x05, 1]).next(), Some(Err(Malformed)));
        assert_eq!(Fields::new(&[0x0b]).next(), Some(Err(Malformed)), "groups are not proto3");
    }
}
