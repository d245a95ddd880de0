//! Just enough Rust to find code apart from comments and strings, and where a function ends.

/// A source file: its text, and its code with comments and the insides of strings as spaces.
pub struct Source {
    /// Relative to the project, with `/`.
    pub path: String,
    pub text: String,
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), code: code_of(text) }
    }

    /// Whether all of it is a test.
    pub fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        let (last, dirs) = parts.split_last().expect("a path has a name");
        dirs.iter().any(|dir| matches!(*dir, "tests" | "benches"))
            || matches!(*last, "tests.rs" | "test.rs")
    }

    /// The code without its `#[cfg(test)]` items; empty if all of it is a test.
    pub fn product(&self) -> String {
        if self.is_test() {
            return String::new();
        }
        let mut code = self.code.clone();
        while let Some(start) = code.find("#[cfg(test)]") {
            let end = item_end(&code, start + "#[cfg(test)]".len());
            let lines = code[start..end].matches('\n').count();
            code.replace_range(start..end, &"\n".repeat(lines));
        }
        code
    }
}

/// A function's name, its first line (from 1) and its number of lines.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        let alone = !code[..start].ends_with(is_word);
        let rest = &code[start + 3..];
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        if !alone || name.is_empty() {
            continue;
        }
        let end = item_end(code, start);
        let line = 1 + code[..start].matches('\n').count();
        let lines = 1 + code[start..end].matches('\n').count();
        found.push(Function { name, line, lines });
    }
    found
}

/// Where the item that begins at `start` ends: after its block, or after a `;` before any.
fn item_end(code: &str, start: usize) -> usize {
    let (mut depth, mut braces) = (0, 0);
    for (offset, c) in code[start..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && depth == 0 {
                    return start + offset + 1;
                }
            }
            ';' if braces == 0 && depth == 0 => return start + offset + 1,
            _ => {}
        }
    }
    code.len()
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `code` by itself; the ends of `word` that are not word characters
/// may touch anything.
pub fn mentions(code: &str, word: &str) -> Option<usize> {
    let starts_word = word.starts_with(is_word);
    let ends_word = word.ends_with(is_word);
    code.match_indices(word).find_map(|(at, _)| {
        let before = starts_word && code[..at].ends_with(is_word);
        let after = ends_word && code[at + word.len()..].starts_with(is_word);
        (!before && !after).then(|| 1 + code[..at].matches('\n').count())
    })
}

/// The text with comments, and what is between quotes, as spaces; lines stay where they are.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => string_end(&chars, at),
            '\'' => char_end(&chars, at),
            'r' if !code.ends_with(is_word) || code.ends_with('b') => raw_end(&chars, at),
            _ => at,
        };
        if end > at {
            let blank = chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' });
            code.extend(blank);
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

fn line_end(chars: &[char], at: usize) -> usize {
    let length = chars[at..].iter().position(|c| *c == '\n');
    length.map_or(chars.len(), |length| at + length)
}

fn comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of a character; a lifetime is no character and ends where it begins.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            // What is escaped may itself be a quote.
            let length = chars.iter().skip(at + 3).position(|c| *c == '\'');
            length.map_or(chars.len(), |length| at + 4 + length)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// The end of `r"..."` or `r#"..."#`; anything else ends where it begins.
fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let start = at + 2 + hashes;
    let length = chars[start..].windows(close.len()).position(|found| found == close);
    length.map_or(chars.len(), |length| start + length + close.len())
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = "a /* b /* c */ d */ \"e \\\" f\" 'g' '\\'' r#\"h \" i\"# b\"j\" &'k l // m\nn";
    let code: Vec<String> = code_of(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(code, ["a", "b", "&'k", "l", "n"]);
    assert_eq!(code_of(text).matches('\n').count(), 1);
}

#[test]
fn functions_are_measured() {
    let code = code_of("fn a<T: Fn([u8; 2])>(b: T) {\n { }\n}\ntrait C {\n fn d(&self);\n}\n");
    let found: Vec<(String, usize, usize)> =
        functions(&code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("a".to_owned(), 1, 3), ("d".to_owned(), 5, 1)]);
}

#[test]
fn test_items_are_not_product() {
    let source =
        Source::new("src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}");
    let product = source.product();
    assert!(product.contains("fn a") && product.contains("fn c") && !product.contains("fn b"));
    assert_eq!(product.lines().count(), 6);
}
