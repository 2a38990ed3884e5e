//! The grammar: words, quotes, escapes, comments, blocks. Nothing here knows a keyword's meaning.
//!
//! ```text
//! file  := { item }
//! item  := word { word } [ "{" { item } "}" ] end-of-line
//! ```
//! `#` starts a comment, also inside a word; `\` takes the next character literally; `"..."` holds blanks and `#`.
//! A brace is a brace only as a word of its own. An opening brace may stand on the line after its keyword.

use crate::diagnostic::{Collector, Span};
use crate::{MAX_DEPTH, MAX_FILE_BYTES, MAX_WORD_BYTES};

/// A word with its quotes and escapes removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Its text.
    pub text: String,
    /// Where it is.
    pub span: Span,
}

/// A line: a keyword or an attribute, its arguments, perhaps a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// At least one word.
    pub words: Vec<Word>,
    /// The items in braces, if there are braces.
    pub block: Option<Vec<Item>>,
}

impl Item {
    /// The first word.
    pub fn keyword(&self) -> &Word {
        &self.words[0]
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(Word),
    Open(Span),
    Close(Span),
    EndOfLine,
}

/// Reads the whole text; None when it is so broken that no structure can be seen.
pub(crate) fn parse(found: &mut Collector<'_>) -> Option<Vec<Item>> {
    let bytes = found.text();
    if bytes.len() > MAX_FILE_BYTES {
        let remedy = "split the set-up over several daemons, or check that this is the right file";
        let message = format!("the file has {} bytes, more than {MAX_FILE_BYTES}", bytes.len());
        found.error(Span { line: 1, column: 1, ..Span::default() }, "", message, remedy);
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            found.error(position(bytes, error.valid_up_to()), "", "not UTF-8", "save the file in UTF-8");
            return None;
        }
    };
    let tokens = Lexer::new(text).run(found)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    parser.items(0, None, found)
}

/// The position of a byte in a text that may not be UTF-8.
fn position(bytes: &[u8], offset: usize) -> Span {
    let before = &bytes[..offset];
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() as u32 + 1;
    let column = String::from_utf8_lossy(&before[start..]).chars().count() as u32 + 1;
    Span { from: offset, to: offset + 1, line, column }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        // A byte order mark is no content.
        Self { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 }, line: 1, column: 1 }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn here(&self) -> Span {
        Span { from: self.at, to: self.at + 1, line: self.line, column: self.column }
    }

    fn run(mut self, found: &mut Collector<'_>) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                '\n' => {
                    self.next();
                    tokens.push(Token::EndOfLine);
                }
                ' ' | '\t' | '\r' => {
                    self.next();
                }
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
                _ => tokens.push(self.word(found)?),
            }
        }
        tokens.push(Token::EndOfLine);
        Some(tokens)
    }

    /// A word, or a brace. None after an error that leaves the rest of the file without sense.
    fn word(&mut self, found: &mut Collector<'_>) -> Option<Token> {
        let start = self.here();
        let mut text = String::new();
        let mut plain = true;
        while let Some(c) = self.peek() {
            match c {
                '#' if !matches!(text.as_str(), "" | "{" | "}") && !self.text[..self.at].ends_with('"') => {
                    let remedy = "write \\# for the character, or quotes around the value; a blank before a comment";
                    found.warning(self.here(), "", "# ends the value and starts a comment", remedy);
                    // It may be a secret that is cut.
                    found.hide_line();
                    break;
                }
                ' ' | '\t' | '\r' | '\n' | '#' => break,
                '"' => {
                    plain = false;
                    self.quoted(&mut text, found)?;
                }
                '\\' => {
                    plain = false;
                    self.escape(&mut text, found)?;
                }
                c if c.is_control() => {
                    let message = format!("control character U+{:04X}", c as u32);
                    found.error(self.here(), "", message, "remove it; is this really a configuration file?");
                    return None;
                }
                c => {
                    text.push(c);
                    self.next();
                }
            }
            if text.len() > MAX_WORD_BYTES {
                let message = format!("a word of more than {MAX_WORD_BYTES} bytes");
                found.error(start, "", message, "is a closing quote missing?");
                return None;
            }
        }
        let span = Span { to: self.at, ..start };
        Some(match text.as_str() {
            "{" if plain => Token::Open(span),
            "}" if plain => Token::Close(span),
            _ => Token::Word(Word { text, span }),
        })
    }

    fn quoted(&mut self, text: &mut String, found: &mut Collector<'_>) -> Option<()> {
        let open = self.here();
        self.next();
        loop {
            match self.peek() {
                Some('"') => {
                    self.next();
                    return Some(());
                }
                Some('\\') => self.escape(text, found)?,
                None | Some('\n') => {
                    found.error(open, "", "this quote is not closed on its line", "add the closing \"");
                    return None;
                }
                Some(c) if c.is_control() && c != '\t' => {
                    let message = format!("control character U+{:04X}", c as u32);
                    found.error(self.here(), "", message, "remove it");
                    return None;
                }
                Some(c) => {
                    text.push(c);
                    self.next();
                }
            }
        }
    }

    fn escape(&mut self, text: &mut String, found: &mut Collector<'_>) -> Option<()> {
        let at = self.here();
        self.next();
        match self.peek() {
            Some(c) if !c.is_control() => {
                text.push(c);
                self.next();
                Some(())
            }
            _ => {
                found.error(at, "", "a backslash with nothing after it", "write \\\\ for a backslash");
                None
            }
        }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    /// Items up to the closing brace of the block that `opened` (or to the end of the file).
    fn items(&mut self, depth: usize, opened: Option<Span>, found: &mut Collector<'_>) -> Option<Vec<Item>> {
        let mut items = Vec::new();
        loop {
            match self.tokens.get(self.at) {
                None => {
                    if let Some(span) = opened {
                        found.error(span, "", "this brace is not closed before the end of the file", "add the }");
                        return None;
                    }
                    return Some(items);
                }
                Some(Token::EndOfLine) => self.at += 1,
                Some(Token::Close(span)) => {
                    if opened.is_none() {
                        found.error(*span, "", "a closing brace without an opening one", "remove the }");
                        return None;
                    }
                    self.at += 1;
                    return Some(items);
                }
                Some(Token::Open(span)) => {
                    found.error(*span, "", "a block without a keyword", "put a keyword and a name before the {");
                    return None;
                }
                Some(Token::Word(_)) => items.push(self.item(depth, found)?),
            }
        }
    }

    fn item(&mut self, depth: usize, found: &mut Collector<'_>) -> Option<Item> {
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.tokens.get(self.at) {
            words.push(word.clone());
            self.at += 1;
        }
        let mut ahead = self.at;
        if is_keyword(&words[0].text) {
            while self.tokens.get(ahead) == Some(&Token::EndOfLine) {
                ahead += 1;
            }
        }
        let Some(Token::Open(span)) = self.tokens.get(ahead) else {
            return Some(Item { words, block: None });
        };
        if depth + 1 > MAX_DEPTH {
            found.error(*span, "", format!("more than {MAX_DEPTH} blocks in one another"), "remove the inner ones");
            return None;
        }
        self.at = ahead + 1;
        let block = self.items(depth + 1, Some(*span), found)?;
        Some(Item { words, block: Some(block) })
    }
}

/// Keywords are in capitals; attributes are not (iSCSI keys have small letters in them).
fn is_keyword(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostic;

    fn run(text: &str) -> (Option<Vec<Item>>, Vec<Diagnostic>) {
        let mut found = Collector::new("t.conf", text.as_bytes());
        let items = parse(&mut found);
        (items, found.finish().0)
    }

    /// Words joined with `|`, blocks in braces: a picture of the structure.
    fn picture(items: &[Item]) -> String {
        let mut out = String::new();
        for item in items {
            let words: Vec<&str> = item.words.iter().map(|w| w.text.as_str()).collect();
            out += &words.join("|");
            if let Some(block) = &item.block {
                out += &format!("{{{}}}", picture(block));
            }
            out += ";";
        }
        out
    }

    #[test]
    fn words_quotes_escapes_and_comments() {
        let (items, found) = run("a 1 # c\n\"b c\" d\"e f\"g \"\" \\#x\\ y i\\\"q\n\"name\"#no\n");
        assert_eq!(picture(&items.unwrap()), "a|1;b c|de fg||#x y|i\"q;name;");
        assert_eq!(found, []);
    }

    #[test]
    fn a_comment_within_a_word_is_told_without_the_line() {
        let (items, found) = run("filename /d/a#b.img\nIncomingUser joe secret#1234567\nA {#\n}#\n} # }\n");
        assert_eq!(items, None);
        let warnings: Vec<_> = found.iter().map(|d| (d.span.line, d.span.column, d.message.as_str())).collect();
        let message = "# ends the value and starts a comment";
        assert_eq!(warnings[..2], [(1, 14, message), (2, 24, message)]);
        assert_eq!(warnings.len(), 3, "the rest is the brace that nothing opens: {warnings:?}");
        assert!(found.iter().all(|d| !d.to_string().contains("secret")));
    }

    #[test]
    fn blocks_in_every_shape() {
        let text = "HANDLER h {\n DEVICE d { size 1 }\n\tDEVICE e\n}\nTARGET t\n{\n LUN 0 d\n}\nvalue x\nLAST";
        let (items, _) = run(text);
        assert_eq!(picture(&items.unwrap()), "HANDLER|h{DEVICE|d{size|1;};DEVICE|e;};TARGET|t{LUN|0|d;};value|x;LAST;");
    }

    #[test]
    fn windows_line_ends_and_byte_order_mark() {
        let (items, _) = run("\u{feff}a 1\r\nb 2\r\n");
        assert_eq!(picture(&items.unwrap()), "a|1;b|2;");
    }

    #[test]
    fn a_brace_inside_a_word_is_text() {
        let (items, _) = run("filename /d/{1}.img \"{\" \\}\n");
        assert_eq!(picture(&items.unwrap()), "filename|/d/{1}.img|{|};");
    }

    fn first_error(text: &str) -> (u32, u32, String) {
        let (items, found) = run(text);
        assert_eq!(items, None);
        (found[0].span.line, found[0].span.column, found[0].message.clone())
    }

    #[test]
    fn structural_errors_have_positions() {
        assert_eq!(first_error("a {\n b 1\n"), (1, 3, "this brace is not closed before the end of the file".into()));
        assert_eq!(first_error("a 1\n  }\n"), (2, 3, "a closing brace without an opening one".into()));
        assert_eq!(first_error("\n{\n}"), (2, 1, "a block without a keyword".into()));
        assert_eq!(first_error("a \"b\nc\""), (1, 3, "this quote is not closed on its line".into()));
        assert_eq!(first_error("a b\\\n"), (1, 4, "a backslash with nothing after it".into()));
        assert_eq!(first_error("a \u{1}"), (1, 3, "control character U+0001".into()));
        assert_eq!(first_error(&"A { ".repeat(9)), (1, 35, "more than 8 blocks in one another".into()));
        let long = format!("a {}", "x".repeat(5000));
        assert_eq!(first_error(&long), (1, 3, "a word of more than 4096 bytes".into()));
    }

    #[test]
    fn bytes_that_are_no_text() {
        let mut found = Collector::new("t.conf", b"ok 1\n \xc3\xa4\xff");
        assert_eq!(parse(&mut found), None);
        let (found, _) = found.finish();
        assert_eq!((found[0].span.line, found[0].span.column), (2, 3));
        assert_eq!(found[0].message, "not UTF-8");
    }
}
