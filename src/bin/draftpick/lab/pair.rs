//! The pair of models that is part of the program, where it is; the text of its tokens.

use draftpick::Token;

/// The text of a token of the pair: its number, in a program without the pair.
#[cfg(not(feature = "candle"))]
pub fn name(token: Token) -> String {
    format!("#{token}")
}

/// The text of a token of the pair, with what cannot be seen made visible.
#[cfg(feature = "candle")]
pub fn name(token: Token) -> String {
    with(|pair| Ok(visible(&pair.tokenizer.decode(&[token])?, token))).unwrap_or_else(|_| format!("#{token}"))
}

#[cfg(feature = "candle")]
fn visible(text: &str, token: Token) -> String {
    match text {
        "" => format!("#{token}"),
        text if text.contains(char::REPLACEMENT_CHARACTER) => format!("#{token}"),
        text => text.replace(' ', "·").replace('\n', "⏎").replace('\t', "⇥"),
    }
}

#[cfg(feature = "candle")]
pub use loaded::{encode, with};

#[cfg(feature = "candle")]
mod loaded {
    use std::cell::RefCell;

    use anyhow::ensure;
    use draftpick::Token;
    use draftpick::decode::Model;
    use draftpick::decode::candle::{Pair, embedded, parse_device};

    /// The most tokens of a text.
    const MAX_TEXT: usize = 512;

    thread_local! {
        // The server has one thread, and loading takes longer than asking.
        static PAIR: RefCell<Option<Pair>> = const { RefCell::new(None) };
    }

    /// Asks the pair something. No sequence is left over from what was asked before.
    pub fn with<T>(ask: impl FnOnce(&mut Pair) -> anyhow::Result<T>) -> anyhow::Result<T> {
        PAIR.with_borrow_mut(|pair| {
            let loaded = match pair.take() {
                Some(loaded) => loaded,
                None => embedded(&parse_device("cpu")?, None)?,
            };
            let pair = pair.insert(loaded);
            pair.draft.keep(0, None)?;
            pair.target.keep(0, None)?;
            ask(pair)
        })
    }

    /// The tokens of a text that the page takes.
    pub fn encode(pair: &Pair, text: &str) -> anyhow::Result<Vec<Token>> {
        let tokens = pair.tokenizer.encode(text)?;
        ensure!(!tokens.is_empty(), "the text is empty");
        ensure!(tokens.len() <= MAX_TEXT, "the text has {} tokens; the page takes up to {MAX_TEXT}", tokens.len());
        Ok(tokens)
    }
}
