//! Patterns of names, as FindFirstFile has them: `*` and `?`, and the three that it makes of `*.`,
//! `?` and `.` in old patterns.

use super::path::folded;

const ANY: u16 = b'*' as u16;
const ONE: u16 = b'?' as u16;
const DOT: u16 = b'.' as u16;
/// Anything up to the last dot.
const DOS_ANY: u16 = b'<' as u16;
/// One unit, or none at a dot or at the end.
const DOS_ONE: u16 = b'>' as u16;
/// A dot, or the end.
const DOS_DOT: u16 = b'"' as u16;

/// Whether a name is meant by a pattern, case aside.
pub(super) fn matches(pattern: &[u16], name: &[u16]) -> bool {
    let (pattern, name) = (folded(pattern), folded(name));
    // Of each place in the name whether the pattern so far may end there.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for symbol in pattern {
        reached = after(symbol, &reached, &name);
    }
    reached[name.len()]
}

fn after(symbol: u16, reached: &[bool], name: &[u16]) -> Vec<bool> {
    let mut next = vec![false; reached.len()];
    let last_dot = name.iter().rposition(|unit| *unit == DOT).unwrap_or(name.len());
    for at in 0..reached.len() {
        if !reached[at] {
            continue;
        }
        let here = name.get(at).copied();
        let step = match symbol {
            ANY => {
                next[at..].fill(true);
                false
            }
            DOS_ANY => {
                let end = if at > last_dot { name.len() } else { last_dot };
                next[at..=end.max(at)].fill(true);
                false
            }
            ONE => here.is_some(),
            DOS_ONE => {
                next[at] |= here.is_none_or(|unit| unit == DOT);
                here.is_some_and(|unit| unit != DOT)
            }
            DOS_DOT => {
                next[at] |= here.is_none();
                here == Some(DOT)
            }
            plain => here == Some(plain),
        };
        if step {
            next[at + 1] = true;
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_find_first_file_means() {
        let table = [
            ("*", "anything", true),
            ("*.txt", "A.TXT", true),
            ("*.txt", "a.txt.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "ab", false),
            ("a*b*c", "a123b456c", true),
            ("a*b*c", "acb", false),
            ("read.me", "README", false),
            ("README", "readme", true),
            // dir *.  finds names without a dot; FindFirstFile makes `<` and `"` of it.
            ("<", "readme", true),
            ("<\"", "readme", true),
            ("<\"", "a.b", false),
            ("<.txt", "a.b.txt", true),
            ("ab>>>", "ab", true),
            ("ab>>>.x", "abc.x", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, name, expected) in table {
            let wide = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
            assert_eq!(matches(&wide(pattern), &wide(name)), expected, "{pattern} {name}");
        }
    }
}
