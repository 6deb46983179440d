//! The pair of models that is part of the crate.

use candle_core::{DType, Device};

use super::llama::{Llama, LoadError};
use super::tokenizer::{Tokenizer, TokenizerError};

/// A draft and a target model that share a tokenizer.
pub struct Pair {
    /// The small model, which guesses.
    pub draft: Llama,
    /// The large model, whose text it is.
    pub target: Llama,
    /// What turns their tokens into text.
    pub tokenizer: Tokenizer,
}

/// Why a pair could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// A model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The tokenizer could not be loaded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// The tiny pair: 4,096 tokens, a target model of 2.6 million parameters and a draft model of 0.3 million, trained on the
/// text of the Rust documentation. Nothing is read from the disk.
///
/// ```
/// use draftpick::decode::candle::{Device, embedded};
/// use draftpick::decode::{Extension, Model};
///
/// let mut pair = embedded(&Device::Cpu, None)?;
/// let prompt = pair.tokenizer.encode("Returns the number of elements in the")?;
/// let last = prompt.len() - 1;
/// let chain = prompt.iter().enumerate();
/// let chain: Vec<_> = chain
///     .map(|(parent, &token)| Extension { sequence: 0, parent, token, scored: parent == last })
///     .collect();
/// let rows = pair.target.extend(&chain)?;
/// let likeliest = (0..rows[0].len()).max_by(|&a, &b| rows[0][a].total_cmp(&rows[0][b])).unwrap();
/// println!("{}", pair.tokenizer.decode(&[likeliest as u32])?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The device does not compute in `dtype` (`None` for its default, see [`Llama::load`]), or it fails.
pub fn embedded(device: &Device, dtype: impl Into<Option<DType>>) -> Result<Pair, PairError> {
    let dtype = dtype.into();
    let draft = Llama::from_bytes(
        include_str!("../../../assets/tiny-pair/draft/config.json"),
        include_bytes!("../../../assets/tiny-pair/draft/model.safetensors").as_slice(),
        device,
        dtype,
    )?;
    let target = Llama::from_bytes(
        include_str!("../../../assets/tiny-pair/target/config.json"),
        include_bytes!("../../../assets/tiny-pair/target/model.safetensors").as_slice(),
        device,
        dtype,
    )?;
    let tokenizer = Tokenizer::from_bytes(include_bytes!("../../../assets/tiny-pair/tokenizer.json"))?;
    Ok(Pair { draft, target, tokenizer })
}
