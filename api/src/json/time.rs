//! Times as RFC 3339, in UTC with milliseconds.

/// A time given in milliseconds since the Unix epoch, as `2026-11-24T07:05:09.042Z`. Times beyond the year 9999,
/// which the notation does not have, are shown as its last millisecond.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let unix_ms = unix_ms.min(LAST_MS);
    let (days, ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, fraction) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
}

/// [`rfc3339`] with nanoseconds behind the milliseconds, if there are any.
pub(crate) fn rfc3339_ns(unix_ms: u64, sub_ns: u32) -> String {
    let text = rfc3339(unix_ms);
    if sub_ns == 0 { text } else { format!("{}{sub_ns:06}Z", text.trim_end_matches('Z')) }
}

/// A time as RFC 3339 writes it: milliseconds since the Unix epoch, and nanoseconds below them; finer fractions are cut.
/// `None` when it is none, or lies before 1970.
pub(crate) fn parse_rfc3339(text: &str) -> Option<(u64, u32)> {
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let bytes = text.as_bytes();
    let is = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|b| allowed.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // A leap second counts as the first of the next minute.
    if year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if month == 0 || day == 0 || civil_from_days(days) != (year, month, day) {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction_ns, zone) = match digits {
        0 => (0, rest),
        digits => (format!("{:0<9}", &rest[1..=digits])[..9].parse::<u32>().ok()?, &rest[1 + digits..]),
    };
    let (fraction_ms, sub_ns) = (u64::from(fraction_ns / 1_000_000), fraction_ns % 1_000_000);
    let offset_minutes = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (hours, minutes) = (number(at..at + 2)?, number(at + 3..at + 5)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = i64::try_from(hours * 60 + minutes).ok()?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let local_ms = days * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1000 + fraction_ms;
    Some((u64::try_from(i64::try_from(local_ms).ok()? - offset_minutes * 60_000).ok()?, sub_ns))
}

/// The day's number after 1970-01-01, the reverse of [`civil_from_days`] for days that exist.
const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - if day == 0 { 0 } else { 1 };
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

/// Year, month and day of the day that is `days` after 1970-01-01.
///
/// Counts from 0000-03-01, so that a leap day ends its year, and months have the lengths 31 30 31 30 31 twice over.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const DAY_MS: u64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z
const LAST_MS: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_a_calendar_says() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_000_000_000_000, "2001-09-09T01:46:40.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), expected);
        }
    }

    #[test]
    fn times_read_back_and_nothing_else_does() {
        for days in (0..2_900_000).step_by(97) {
            let unix_ms = days * DAY_MS + 86_399_999;
            assert_eq!(parse_rfc3339(&rfc3339(unix_ms)), Some((unix_ms.min(LAST_MS), 0)));
        }
        for (text, expected) in [
            ("2030-01-31T12:00:00Z", Some(1_896_091_200_000)),
            ("2030-01-31t12:00:00.1234567z", Some(1_896_091_200_123)),
            ("2030-01-31T13:30:00+01:30", Some(1_896_091_200_000)),
            ("2030-01-31T10:30:00.5-01:30", Some(1_896_091_200_500)),
            ("1970-01-01T00:00:00+00:01", None),
            ("1969-12-31T23:59:59Z", None),
            ("2030-02-29T00:00:00Z", None),
            ("2030-13-01T00:00:00Z", None),
            ("2030-00-01T00:00:00Z", None),
            ("2030-01-00T00:00:00Z", None),
            ("2030-01-31T24:00:00Z", None),
            ("2030-01-31T12:00:00", None),
            ("2030-01-31T12:00:00.Z", None),
            ("2030-01-31T12:00:00é", None),
            ("2030-01-31T12:00:00+1:00", None),
            ("2030-01-31T12:00:00Zx", None),
            ("", None),
        ] {
            assert_eq!(parse_rfc3339(text).map(|(ms, _)| ms), expected, "{text}");
        }
    }

    #[test]
    fn nanoseconds_are_shown_as_they_were_given() {
        let text = "2030-01-31T12:00:00.123456789Z";
        assert_eq!(parse_rfc3339(text), Some((1_896_091_200_123, 456_789)));
        assert_eq!(rfc3339_ns(1_896_091_200_123, 456_789), text);
        assert_eq!(rfc3339_ns(1_896_091_200_123, 0), "2030-01-31T12:00:00.123Z");
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let mut before = (1969, 12, 31);
        for days in 0..200_000 {
            let (year, month, day) = civil_from_days(days);
            let next = if day > 1 {
                (year, month, day - 1)
            } else if month > 1 {
                (year, month - 1, before.2)
            } else {
                (year - 1, 12, 31)
            };
            assert_eq!(before, next);
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            assert!(day <= if month == 2 { if is_leap { 29 } else { 28 } } else { 31 });
            before = (year, month, day);
        }
    }
}
