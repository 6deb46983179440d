//! A line's fields before it is known what they must be.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::pmf::Token;

/// A round as it is written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRecord<'a> {
    /// Whatever the engine knows the round by.
    #[serde(default)]
    #[allow(dead_code)]
    id: de::IgnoredAny,
    pub drafts: Vec<Tokens>,
    #[serde(borrow, default)]
    pub draft: Value<'a>,
    #[serde(borrow)]
    pub target: Value<'a>,
    pub output: Vec<Token>,
}

/// A token or a path of tokens.
#[derive(Debug)]
pub enum Tokens {
    One(Token),
    Path(Vec<Token>),
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrPath;
        impl<'de> Visitor<'de> for OneOrPath {
            type Value = Tokens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a token or a list of tokens")
            }

            fn visit_u64<E: de::Error>(self, token: u64) -> Result<Tokens, E> {
                let token = Token::try_from(token);
                token.map(Tokens::One).map_err(|_| E::invalid_value(de::Unexpected::Other("a larger number"), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Tokens, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Tokens::Path)
            }
        }
        deserializer.deserialize_any(OneOrPath)
    }
}

/// The most probable tokens as they are written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTop {
    pub tokens: Vec<Token>,
    pub values: Vec<Option<f64>>,
    pub tail: f64,
}

/// Scores, or lists of them.
#[derive(Debug, Default)]
pub enum Value<'a> {
    #[default]
    Null,
    Number(f64),
    /// Full scores; null stands for −∞, which JSON does not have.
    Numbers(Vec<f64>),
    Packed(Cow<'a, str>),
    Top(RawTop),
    List(Vec<Value<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scores)
    }
}

struct Scores;

impl<'de> Visitor<'de> for Scores {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scores, or lists of scores")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Packed(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Packed(Cow::Owned(text.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
        RawTop::deserialize(de::value::MapAccessDeserializer::new(map)).map(Value::Top)
    }

    /// A list that begins with a number, after any nulls, is one of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element::<Value>()? {
            let Value::Number(first) = value else {
                list.push(value);
                continue;
            };
            if !list.iter().all(|value| matches!(value, Value::Null)) {
                return Err(de::Error::custom("a number among lists of scores"));
            }
            let mut numbers = vec![f64::NEG_INFINITY; list.len()];
            numbers.push(first);
            while let Some(number) = seq.next_element::<Option<f64>>()? {
                numbers.push(number.unwrap_or(f64::NEG_INFINITY));
            }
            return Ok(Value::Numbers(numbers));
        }
        Ok(Value::List(list))
    }
}
