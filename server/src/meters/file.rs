//! The files of the meters: one for a day, `meters/DAY.tsv` with the days since the Unix epoch, a line for what was
//! counted of one meter in (a part of) one minute:
//!
//! ```text
//! minute since the epoch  TAB  basin, or - for the account  TAB  meter  TAB  value  TAB  .
//! ```
//!
//! Lines of the same minute, basin and meter add up; of those that say what is stored the greatest stands. A line without its last field was torn by a crash and counts for
//! nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::keeper::Key;
use super::meter::{Meter, Scope};

/// Minutes of a day, which are in one file.
const DAY_MINUTES: u32 = 24 * 60;
/// Days that are kept.
const DAYS_MAX: u32 = 91;
/// Longest line that is looked at; names of basins are far shorter.
const LINE_BYTES_MAX: u64 = 256;

/// The directory of the files.
#[derive(Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    /// In the directory of the server's data; made when something is first written.
    #[must_use]
    pub(crate) fn new(data: &Path) -> Self {
        Self(data.join("meters"))
    }

    fn path(&self, day: u32) -> PathBuf {
        self.0.join(format!("{day}.tsv"))
    }

    /// Adds lines, which are of one day, and waits until they are durable.
    ///
    /// # Errors
    /// When the file cannot be written. Some of the lines may be in it then.
    pub(crate) fn append(&self, day: u32, lines: &str) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let path = self.path(day);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()
    }

    /// Gives `see` all that lies in these minutes.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn read(&self, minutes: std::ops::Range<u32>, mut see: impl FnMut(Key, u64)) -> io::Result<()> {
        let days = minutes.start / DAY_MINUTES..=minutes.end.saturating_sub(1) / DAY_MINUTES;
        for day in days {
            let file = match File::open(self.path(day)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut reader = BufReader::with_capacity(256 << 10, file);
            let mut line = Vec::new();
            loop {
                line.clear();
                if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                    break;
                }
                let parsed = std::str::from_utf8(&line).ok().and_then(parse);
                if let Some((key, value)) = parsed.filter(|(key, _)| minutes.contains(&key.0)) {
                    see(key, value);
                }
            }
        }
        Ok(())
    }

    /// Removes the files of days that are too long ago.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not be removed.
    pub(crate) fn forget_before(&self, today: u32) -> io::Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let is_ours = path.extension().is_some_and(|extension| extension == "tsv");
            let day = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok());
            if is_ours && day.is_some_and(|day| day.saturating_add(DAYS_MAX) < today) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// The day of a minute.
#[must_use]
pub(crate) const fn day_of(minute: u32) -> u32 {
    minute / DAY_MINUTES
}

/// Adds a line.
pub(crate) fn write_line(out: &mut String, (minute, scope, meter): &Key, value: u64) {
    use std::fmt::Write as _;
    let _ = writeln!(out, "{minute}\t{scope}\t{}\t{value}\t.", meter.name());
}

fn parse(line: &str) -> Option<(Key, u64)> {
    let mut fields = line.strip_suffix('\n')?.split('\t');
    let (minute, scope, meter) = (fields.next()?, fields.next()?, fields.next()?);
    let (value, end, rest) = (fields.next()?, fields.next()?, fields.next());
    if end != "." || rest.is_some() {
        return None;
    }
    Some(((minute.parse().ok()?, Scope::parse(scope)?, Meter::named(meter)?), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(minute: u32) -> Key {
        (minute, Scope::Account, Meter::READ_UNARY)
    }

    fn all(files: &Files, minutes: std::ops::Range<u32>) -> Vec<(u32, u64)> {
        let mut seen = Vec::new();
        files.read(minutes, |key, value| seen.push((key.0, value))).expect("readable");
        seen
    }

    #[test]
    fn a_torn_line_counts_for_nothing_and_spoils_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::new(dir.path());
        let mut lines = String::new();
        write_line(&mut lines, &key(10), 5);
        write_line(&mut lines, &key(11), 6);
        files.append(0, &lines).expect("written");
        for cut in 1..=lines.len() / 2 {
            fs::write(files.path(0), &lines[..lines.len() - cut]).expect("written");
            files
                .append(0, &{
                    let mut more = String::new();
                    write_line(&mut more, &key(12), 7);
                    more
                })
                .expect("written");
            // Without its line feed alone, the line is whole, and gets one.
            let expected: &[(u32, u64)] = if cut == 1 { &[(10, 5), (11, 6), (12, 7)] } else { &[(10, 5), (12, 7)] };
            let expected = if cut == lines.len() / 2 { &[(10, 5), (12, 7)] } else { expected };
            assert_eq!(all(&files, 0..100), expected, "{cut}");
        }
    }

    #[test]
    fn a_range_spans_files_and_garbage_is_skipped() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::new(dir.path());
        for minute in [0, DAY_MINUTES - 1, DAY_MINUTES, 3 * DAY_MINUTES] {
            let mut line = String::new();
            write_line(&mut line, &key(minute), 1);
            files.append(day_of(minute), &line).expect("written");
        }
        files.append(1, "\u{0}garbage\n1440\tBAD NAME\tread-ops.unary\t1\t.\n").expect("written");
        files.append(1, &"x".repeat(10_000)).expect("written");
        assert_eq!(all(&files, 1..3 * DAY_MINUTES), [(DAY_MINUTES - 1, 1), (DAY_MINUTES, 1)]);
        assert_eq!(all(&files, 0..3 * DAY_MINUTES + 1).len(), 4);
    }

    #[test]
    fn old_days_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::new(dir.path());
        for day in [100, 109, 110, 200] {
            files.append(day, "").expect("written");
        }
        files.forget_before(201).expect("removed");
        let left: Vec<u32> = [100, 109, 110, 200].into_iter().filter(|day| files.path(*day).exists()).collect();
        assert_eq!(left, [110, 200]);
    }
}
