//! Numbers and untrusted text, written for people.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// A number of bytes, to three digits: `1.50 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = precise(bytes) / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// A short time, to three digits: `12.3 µs`.
#[must_use]
pub fn latency(time: Duration) -> String {
    let nanos = time.as_secs_f64() * 1e9;
    let (value, unit) = match nanos {
        ..999.5 => return format!("{nanos:.0} ns"),
        ..999_500.0 => (nanos / 1e3, "µs"),
        ..999_500_000.0 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A long time, by its two largest units: `3h 12m`.
#[must_use]
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m {}s", seconds % 60),
        () if days == 0 => format!("{hours}h {}m", minutes % 60),
        () => format!("{days}d {}h", hours % 24),
    }
}

/// A count with its thousands apart: `12 345`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// Text that a process chose itself, made safe for a terminal: control characters are escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let controls = |character: char| character.is_control() || is_bidi_control(character);
    if !text.contains(controls) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if controls(character) {
            // Writing to a String can't fail.
            let _ = write!(safe, "{}", character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Characters that reorder what stands beside them.
fn is_bidi_control(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn three_digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "only its first three digits are shown")]
fn precise(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_stay_at_every_edge() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1024 * 10 - 1, "10.0 KiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
            (1024 * 1024 * 3 / 2, "1.50 MiB"),
            (u64::MAX, "16777216 TiB"),
        ];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        let cases =
            [(0, "0 ns"), (999, "999 ns"), (1_000, "1.00 µs"), (12_345, "12.3 µs"), (999_600, "1.00 ms")];
        for (nanos, text) in cases {
            assert_eq!(latency(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(latency(Duration::from_secs(2)), "2.00 s");
    }

    #[test]
    fn ages_have_two_units() {
        let cases = [(59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (11_520, "3h 12m"), (90_000, "1d 1h")];
        for (seconds, text) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1\u{a0}234\u{a0}567");
    }

    #[test]
    fn a_process_cannot_write_to_the_terminal() {
        assert!(matches!(printable("plain é"), Cow::Borrowed("plain é")));
        assert_eq!(printable("a\x1b[2Jb\n\u{202e}"), "a\\u{1b}[2Jb\\n\\u{202e}");
    }
}
