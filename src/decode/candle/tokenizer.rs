//! From text to tokens and back, one token at a time if need be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pmf::Token;

/// Why a tokenizer was refused, or could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: std::io::Error,
    },
    /// The text of the file is no tokenizer.
    #[error("no valid tokenizer.json: {0}")]
    Format(#[source] tokenizers::Error),
    /// A text could not be turned into tokens.
    #[error("cannot encode the text: {0}")]
    Encode(#[source] tokenizers::Error),
    /// Tokens could not be turned into text.
    #[error("cannot decode the tokens: {0}")]
    Decode(#[source] tokenizers::Error),
    /// A number stands for different tokens in two tokenizers.
    #[error("the tokenizers differ: token {token} is {} in one and {} in the other", shown(first), shown(second))]
    Vocabulary {
        /// The smallest such number.
        token: Token,
        /// Its text in the first, if there is one.
        first: Option<String>,
        /// Its text in the second, if there is one.
        second: Option<String>,
    },
    /// Two tokenizers with the same vocabulary cut a text in different ways.
    #[error("the tokenizers differ in their {part}")]
    Rules {
        /// The part of `tokenizer.json` that differs.
        part: &'static str,
    },
}

fn shown(text: &Option<String>) -> String {
    text.as_ref().map_or_else(|| "nothing".to_string(), |text| format!("{text:?}"))
}

/// A tokenizer in the format of `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab: usize,
}

impl Tokenizer {
    /// Loads `tokenizer.json` of a directory.
    ///
    /// # Errors
    /// The file cannot be read, or is no tokenizer.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = dir.as_ref().join("tokenizer.json");
        let bytes = fs::read(&path).map_err(|error| TokenizerError::Io { path, error })?;
        Self::from_bytes(&bytes)
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// It is no tokenizer.
    pub fn from_bytes(json: &[u8]) -> Result<Self, TokenizerError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(TokenizerError::Format)?;
        // Some files carry the settings of a training run. No prompt is to be cut or filled up without notice.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(TokenizerError::Format)?;
        let vocab = inner.get_vocab(true).into_values().max().map_or(0, |last| last as usize + 1);
        Ok(Tokenizer { inner, vocab })
    }

    /// The number of tokens: one more than the largest. A model may have more logits than that, never to be drawn.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The tokens of a text, with those that the tokenizer puts at the start of every text.
    ///
    /// # Errors
    /// The tokenizer cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, true).map_err(TokenizerError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of some tokens, without special tokens such as the end of a text. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[Token]) -> Result<String, TokenizerError> {
        self.inner.decode(tokens, true).map_err(TokenizerError::Decode)
    }

    /// The text of tokens that come one by one.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, window: Vec::new(), printed: 0 }
    }

    /// Checks that another tokenizer gives the same tokens the same meaning, and cuts texts in the same way: a draft
    /// model must speak the language of its target.
    ///
    /// # Errors
    /// They differ: the first token that does is named, or else the part of the rules.
    pub fn check_same(&self, other: &Tokenizer) -> Result<(), TokenizerError> {
        let tokens = |tokenizer: &Tokenizer| -> BTreeMap<Token, String> {
            tokenizer.inner.get_vocab(true).into_iter().map(|(text, token)| (token, text)).collect()
        };
        let (mut ours, mut theirs) = (tokens(self), tokens(other));
        let differing = ours.keys().chain(theirs.keys()).filter(|token| ours.get(token) != theirs.get(token)).min();
        if let Some(&token) = differing {
            let (first, second) = (ours.remove(&token), theirs.remove(&token));
            return Err(TokenizerError::Vocabulary { token, first, second });
        }
        let (ours, theirs) = (self.to_json()?, other.to_json()?);
        for (part, pointer) in [
            ("merges", "/model/merges"),
            ("model", "/model"),
            ("normalizer", "/normalizer"),
            ("pre-tokenizer", "/pre_tokenizer"),
            ("added tokens", "/added_tokens"),
        ] {
            if ours.pointer(pointer) != theirs.pointer(pointer) {
                return Err(TokenizerError::Rules { part });
            }
        }
        Ok(())
    }

    /// In one form, whatever form the file was in.
    fn to_json(&self) -> Result<serde_json::Value, TokenizerError> {
        let text = self.inner.to_string(false).map_err(TokenizerError::Format)?;
        serde_json::from_str(&text).map_err(|error| TokenizerError::Format(Box::new(error)))
    }
}

/// The number of tokens after which those that were printed are forgotten. A few stay: some decoders strip the space
/// before the first token that they see.
const WINDOW: usize = 16;
const CONTEXT: usize = 4;

/// The most bytes by which a character can be incomplete. Each may show as one U+FFFD.
const MAX_PENDING: usize = 3;

/// Decodes tokens as they come. A token may end within a character; the character is held back until it is whole.
///
/// ```
/// use draftpick::decode::candle::{Device, embedded};
///
/// let tokenizer = embedded(&Device::Cpu, None)?.tokenizer;
/// let tokens = tokenizer.encode("naïve: 日本")?;
/// let mut stream = tokenizer.stream();
/// let mut text = String::new();
/// for token in tokens {
///     text += &stream.push(token)?;
/// }
/// text += &stream.finish()?;
/// assert_eq!(text, "naïve: 日本");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The last tokens.
    window: Vec<Token>,
    /// How many bytes of the window's text were handed out.
    printed: usize,
}

impl TextStream<'_> {
    /// Takes a token, and returns what can be printed now.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn push(&mut self, token: Token) -> Result<String, TokenizerError> {
        self.window.push(token);
        let text = self.tokenizer.decode(&self.window)?;
        let mut whole = text.as_str();
        for _ in 0..MAX_PENDING {
            whole = whole.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(whole);
        }
        let new = whole.get(self.printed..).unwrap_or_default().to_string();
        self.printed += new.len();
        if self.printed == text.len() && self.window.len() >= WINDOW {
            self.window.drain(..self.window.len() - CONTEXT);
            self.printed = self.tokenizer.decode(&self.window)?.len();
        }
        Ok(new)
    }

    /// What was held back: U+FFFD for each part of a character that was never completed.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn finish(self) -> Result<String, TokenizerError> {
        let text = self.tokenizer.decode(&self.window)?;
        Ok(text.get(self.printed..).unwrap_or_default().to_string())
    }
}
