//! AMF0 as far as RTMP commands and `onMetaData` need it. Source: Adobe AMF0 specification, §2.
//!
//! The reader is total: nesting, element count and memory are bounded by [`MAX_DEPTH`], [`MAX_VALUES`] and the input.

use bytes::{BufMut, BytesMut};

/// Objects inside objects beyond this are refused.
const MAX_DEPTH: usize = 8;
/// Values in one message beyond this are refused.
const MAX_VALUES: usize = 512;

/// A value. Types that RTMP does not use in commands (references, XML, typed objects) are refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Bool(bool),
    Text(String),
    /// Objects and ECMA arrays alike.
    Object(Vec<(String, Value)>),
    List(Vec<Value>),
    Null,
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Bool(_) | Self::Object(_) | Self::List(_) | Self::Null => None,
        }
    }

    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) | Self::Bool(_) | Self::Object(_) | Self::List(_) | Self::Null => None,
        }
    }

    /// A property of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) => properties
                .iter()
                .find_map(|(key, value)| (key == name).then_some(value)),
            Self::Text(_) | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Null => None,
        }
    }
}

/// Reads all values of a message; `None` when it is not AMF0 or exceeds a bound.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut reader = Reader {
        rest: bytes,
        left: MAX_VALUES,
    };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    Some(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn string(&mut self, length: usize) -> Option<String> {
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn short_string(&mut self) -> Option<String> {
        let length = u16::from_be_bytes(self.array()?);
        self.string(usize::from(length))
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if depth > MAX_DEPTH {
            return None;
        }
        let [marker] = self.array()?;
        match marker {
            0 => Some(Value::Number(f64::from_be_bytes(self.array()?))),
            1 => Some(Value::Bool(self.array::<1>()? != [0])),
            2 => self.short_string().map(Value::Text),
            3 => self.object(depth),
            5 | 6 => Some(Value::Null),
            8 => {
                self.take(4)?;
                self.object(depth)
            }
            10 => {
                let count = u32::from_be_bytes(self.array()?);
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(depth + 1)?);
                }
                Some(Value::List(list))
            }
            11 => {
                let ms = f64::from_be_bytes(self.array()?);
                self.take(2)?;
                Some(Value::Number(ms))
            }
            12 => {
                let length = u32::from_be_bytes(self.array()?);
                self.string(usize::try_from(length).ok()?).map(Value::Text)
            }
            _ => None,
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut properties = Vec::new();
        loop {
            let name = self.short_string()?;
            if name.is_empty() && self.rest.first() == Some(&9) {
                self.take(1)?;
                return Some(Value::Object(properties));
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }
}

/// Appends values. Strings are cut at 65535 bytes.
pub(crate) fn write(values: &[Value], out: &mut BytesMut) {
    for value in values {
        match value {
            Value::Number(number) => {
                out.put_u8(0);
                out.put_f64(*number);
            }
            Value::Bool(flag) => out.put_slice(&[1, u8::from(*flag)]),
            Value::Text(text) => {
                out.put_u8(2);
                put_string(text, out);
            }
            Value::Object(properties) => {
                out.put_u8(3);
                put_properties(properties, out);
            }
            Value::List(list) => {
                out.put_u8(10);
                out.put_u32(u32::try_from(list.len()).unwrap_or(u32::MAX));
                write(list, out);
            }
            Value::Null => out.put_u8(5),
        }
    }
}

/// Appends an ECMA array, the form in which players expect `onMetaData`.
pub(crate) fn write_ecma_array(properties: &[(String, Value)], out: &mut BytesMut) {
    out.put_u8(8);
    out.put_u32(u32::try_from(properties.len()).unwrap_or(u32::MAX));
    put_properties(properties, out);
}

fn put_properties(properties: &[(String, Value)], out: &mut BytesMut) {
    for (name, value) in properties {
        put_string(name, out);
        write(std::slice::from_ref(value), out);
    }
    out.put_slice(&[0, 0, 9]);
}

fn put_string(text: &str, out: &mut BytesMut) {
    let bytes = text
        .as_bytes()
        .get(..usize::from(u16::MAX))
        .unwrap_or(text.as_bytes());
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(|n| Value::Number(f64::from(n))),
            any::<bool>().prop_map(Value::Bool),
            "[a-z]{0,9}".prop_map(Value::Text),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(("[a-z]{1,5}", inner.clone()), 0..4)
                    .prop_map(Value::Object),
                proptest::collection::vec(inner, 0..4).prop_map(Value::List),
            ]
        })
    }

    proptest! {
        #[test]
        fn round_trips(values in proptest::collection::vec(value(), 0..5)) {
            let mut out = BytesMut::new();
            write(&values, &mut out);
            prop_assert_eq!(read(&out), Some(values));
        }

        #[test]
        fn reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let nested: Vec<u8> = std::iter::repeat_n([3, 0, 1, b'a'], 10_000)
            .flatten()
            .collect();
        assert_eq!(read(&nested), None);
    }
}
