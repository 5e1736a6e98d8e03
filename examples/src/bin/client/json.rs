//! JSON laid out for people.

use serde_json::value::RawValue;

/// JSON with a value a line, its numbers, strings and order as they were; `None` if the text is none.
pub(crate) fn layout(text: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(text).ok()?;
    let mut out = String::new();
    let mut depth = 0;
    let mut rest = text.trim();
    while let Some(next) = rest.chars().next() {
        let len = if next == '"' { string_len(rest) } else { next.len_utf8() };
        let token = &rest[..len];
        rest = &rest[len..];
        if next.is_ascii_whitespace() {
            continue;
        }
        let is_empty =
            matches!((next, rest.trim_start().chars().next()), ('[', Some(']')) | ('{', Some('}')));
        let closes = matches!(next, ']' | '}') && !out.ends_with(['[', '{']);
        match next {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if closes {
            line(&mut out, depth);
        }
        out.push_str(token);
        match next {
            ':' => out.push(' '),
            ',' | '[' | '{' if !is_empty => line(&mut out, depth),
            _ => {}
        }
    }
    Some(out)
}

/// A new line at this depth.
fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// The length of the string that a text begins with, in bytes, quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    2 + end.expect("it was parsed")
}

#[cfg(test)]
mod tests {
    use super::layout;

    #[test]
    fn values_have_a_line_each_and_stay_as_they_were() {
        let text = r#" {"b":[1.0,-2e400,[ ]],"a" : {"\"}" : "é\\"}, "c":{}, "b":null} "#;
        let lines = [
            "{",
            r#"  "b": ["#,
            "    1.0,",
            "    -2e400,",
            "    []",
            "  ],",
            r#"  "a": {"#,
            r#"    "\"}": "é\\""#,
            "  },",
            r#"  "c": {},"#,
            r#"  "b": null"#,
            "}",
        ];
        assert_eq!(layout(text).unwrap(), lines.join("\n"));
        assert_eq!(layout("7").unwrap(), "7");
    }

    #[test]
    fn other_text_is_told_from_it() {
        for text in ["", "hello", "{", "[1,]", "{} {}", "'a'", "01", &"[".repeat(100_000)] {
            assert_eq!(layout(text), None);
        }
    }
}
