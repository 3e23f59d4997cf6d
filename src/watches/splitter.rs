//! The text of a list, taken apart into its objects while it comes: a list of a hundred thousand is never held as a whole. Pure.
//!
//! It works for JSON text that is a list as the Kubernetes API has them: an object whose member `items` is an array of objects.
//! What is no JSON is for the parser of the parts to find.

use memchr::memchr2;

/// What has been read, and where in the text that is.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// How many objects and arrays are open.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The last string of the list itself, without its quotes: a member's name, where an array begins after it.
    name: Vec<u8>,
    /// Whether the array of objects is open, at depth 2.
    in_items: bool,
    /// The object that is being read, or, where it is at its end, has been read.
    object: Vec<u8>,
    /// All else.
    rest: Vec<u8>,
}

/// What a part of the text belongs to.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Rest,
    Object,
    /// Nothing: what separates the objects.
    Between,
}

/// Depth of what is between the objects.
const BETWEEN: usize = 2;

impl Splitter {
    /// Reads on, up to the end of the next object or of `text`. Gives how much it has read, and whether that is an object's end.
    pub(super) fn read(&mut self, text: &[u8]) -> (usize, bool) {
        let (mut at, mut kept) = (0, 0);
        loop {
            at += self.insignificant(&text[at..]);
            let place = self.place();
            let Some(&byte) = text.get(at) else {
                self.keep(place, &text[kept..]);
                return (at, false);
            };
            at += 1;
            let is_object = self.step(byte);
            if self.place() != place {
                self.keep(place, &text[kept..at]);
                kept = at;
            }
            if is_object {
                return (at, true);
            }
        }
    }

    /// Where the next byte belongs.
    fn place(&self) -> Place {
        if !self.in_items {
            Place::Rest
        } else if self.depth > BETWEEN {
            Place::Object
        } else {
            Place::Between
        }
    }

    /// How many bytes come before the next that opens, closes or escapes anything.
    fn insignificant(&self, text: &[u8]) -> usize {
        // Of the list itself every byte counts: it may be a name's.
        if self.depth < BETWEEN || self.is_escaped {
            return 0;
        }
        let next = if self.in_string {
            memchr2(b'"', b'\\', text)
        } else {
            text.iter().position(|byte| b"\"{}[]".contains(byte))
        };
        next.unwrap_or(text.len())
    }

    fn keep(&mut self, place: Place, text: &[u8]) {
        match place {
            Place::Rest => self.rest.extend_from_slice(text),
            Place::Object => self.object.extend_from_slice(text),
            Place::Between => {}
        }
    }

    /// The object that has been read.
    pub(super) fn object(&self) -> &[u8] {
        &self.object
    }

    /// The list without its objects, once all of it has been read; `None`: there is more.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        (self.depth == 0 && !self.rest.is_empty()).then_some(&self.rest)
    }

    /// Whether an object of the list has ended.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            self.step_in_string(byte);
            return false;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    self.name.clear();
                }
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => return self.close(),
            _ => {}
        }
        false
    }

    fn step_in_string(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => self.in_string = false,
            _ if self.depth == 1 => self.name.push(byte),
            _ => {}
        }
    }

    fn open(&mut self, byte: u8) {
        self.depth += 1;
        if self.in_items && self.depth == BETWEEN + 1 {
            self.object.clear();
            self.object.push(byte);
        } else if byte == b'[' && self.depth == BETWEEN && self.name == b"items" {
            self.in_items = true;
        }
    }

    fn close(&mut self) -> bool {
        self.depth = self.depth.saturating_sub(1);
        if self.in_items && self.depth < BETWEEN {
            self.in_items = false;
            self.rest.push(b']');
        }
        self.in_items && self.depth == BETWEEN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The objects of a list and the rest of it, read in pieces of some sizes.
    fn split(text: &str, sizes: &[usize]) -> (Vec<Value>, Option<Value>) {
        let (mut splitter, mut objects, mut text) = (Splitter::default(), Vec::new(), text.as_bytes());
        for size in sizes.iter().cycle() {
            let (mut piece, after) = text.split_at((*size).min(text.len()));
            while !piece.is_empty() {
                let (read, is_object) = splitter.read(piece);
                piece = &piece[read..];
                if is_object {
                    objects.push(serde_json::from_slice(splitter.object()).unwrap());
                }
            }
            text = after;
            if text.is_empty() {
                break;
            }
        }
        (objects, splitter.rest().map(|rest| serde_json::from_slice(rest).unwrap()))
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\{}\[\]:, é]{0,8}"#.prop_map(Value::from),
            Just(Value::from("items")),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                object(inner).prop_map(Value::from),
            ]
        })
    }

    fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = serde_json::Map<String, Value>> {
        let name =
            prop_oneof![r#"[a-z"\\{}\[\]]{0,6}"#, Just("items".to_owned()), Just("metadata".to_owned())];
        prop::collection::vec((name, value), 0..4).prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_list_comes_apart_wherever_its_text_is_cut(
            objects in prop::collection::vec(object(value()), 0..4),
            rest in object(value()),
            is_pretty in any::<bool>(),
            sizes in prop::collection::vec(1..40usize, 1..5),
        ) {
            let mut list = Value::from(rest);
            list["items"] = json!([]);
            let without = list.clone();
            list["items"] = objects.iter().cloned().map(Value::from).collect();
            let text = if is_pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) };
            let (found, rest) = split(&text.unwrap(), &sizes);
            prop_assert_eq!(found, list["items"].as_array().unwrap().clone());
            prop_assert_eq!(rest, Some(without));
        }

        #[test]
        fn a_list_that_ends_early_is_not_taken_for_a_whole_one(cut in 1..60usize) {
            let text = r#"{"items": [{"metadata": {"name": "bob"}}, {"metadata": {}}], "metadata": {"resourceVersion": "7"}}"#;
            prop_assert_eq!(split(&text[..text.len() - cut], &[7]).1, None);
        }
    }

    #[test]
    fn a_list_without_an_array_of_objects_has_none() {
        let text = r#"{"items": null, "metadata": {"resourceVersion": "7"}}"#;
        assert_eq!(split(text, &[5]), (vec![], Some(serde_json::from_str(text).unwrap())));
    }
}
