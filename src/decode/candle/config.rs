//! `config.json` of a checkpoint: every field that changes the mathematics.

use std::fmt;

use serde_json::{Map, Value};

use crate::pmf::MAX_VOCAB;

/// The largest size a field may state: 2²⁴. No real model comes near it, and products of three of them still fit.
const MAX_SIZE: usize = 1 << 24;

/// Why a `config.json` was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no JSON object.
    #[error("config.json is no JSON object: {0}")]
    Json(#[source] serde_json::Error),
    /// A field that has no default is not there.
    #[error("config.json has no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field holds another kind of value.
    #[error("config.json: {field} is {value}, expected {wanted}")]
    Kind {
        /// The field.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
        /// What was expected.
        wanted: &'static str,
    },
    /// A field asks for mathematics that this decoder does not do.
    #[error("config.json: {field} = {value} is not supported, only {supported}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value, as JSON.
        value: String,
        /// What is.
        supported: &'static str,
    },
    /// Two fields contradict each other.
    #[error("config.json: {field} = {value} does not go with {other} = {other_value}")]
    Mismatch {
        /// The first field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The second field.
        other: &'static str,
        /// Its value.
        other_value: usize,
    },
}

/// The family of a checkpoint. The three differ in their defaults and in where they have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// `model_type` = `llama`.
    Llama,
    /// `model_type` = `mistral`, without a sliding window.
    Mistral,
    /// `model_type` = `qwen2`: a bias on queries, keys and values; no sliding window.
    Qwen2,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Qwen2 => "qwen2",
        })
    }
}

/// How the frequencies of the rotary embedding are stretched for long contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RopeScaling {
    /// Not at all.
    Default,
    /// All are divided by `factor`.
    Linear { factor: f64 },
    /// The slow ones are divided by `factor`, the fast ones stay, those between are interpolated.
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_context: f64 },
}

/// What a decoder computes, read from `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) family: Family,
    pub(super) vocab: usize,
    pub(super) hidden: usize,
    pub(super) intermediate: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) context: usize,
    pub(super) norm_eps: f64,
    pub(super) rope_theta: f64,
    pub(super) rope_scaling: RopeScaling,
    pub(super) tied: bool,
    /// Biases on the projections to queries, keys and values.
    pub(super) qkv_bias: bool,
    /// A bias on the projection of the attention's output.
    pub(super) output_bias: bool,
    pub(super) mlp_bias: bool,
    end_of_text: Vec<u32>,
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// Where a field is missing, its default is that of the Hugging Face library. Sizes, the context and the norm's
    /// epsilon have to be there.
    ///
    /// # Errors
    /// The text is no JSON object; a field is missing, of the wrong kind or zero; two sizes contradict each other; or a
    /// field asks for something else than a plain Llama, Mistral or Qwen2 decoder with a rotary embedding of type
    /// `default`, `linear` or `llama3`: the error names the field and its value.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let root: Map<String, Value> = serde_json::from_str(text).map_err(ConfigError::Json)?;
        let fields = Fields(&root);

        let family = match fields.text("model_type")? {
            None => return Err(ConfigError::Missing { field: "model_type" }),
            Some("llama") => Family::Llama,
            Some("mistral") => Family::Mistral,
            Some("qwen2") => Family::Qwen2,
            Some(_) => return Err(fields.unsupported("model_type", "llama, mistral and qwen2")),
        };
        if !matches!(fields.text("hidden_act")?, None | Some("silu")) {
            return Err(fields.unsupported("hidden_act", "silu"));
        }
        if fields.present("quantization_config").is_some() {
            return Err(fields.unsupported("quantization_config", "weights in bf16, f16 and f32"));
        }
        // Qwen2 states a window that it does not use.
        if fields.present("sliding_window").is_some() && fields.flag("use_sliding_window")? != Some(false) {
            return Err(fields.unsupported("sliding_window", "null"));
        }
        if fields.flag("use_sliding_window")? == Some(true) {
            return Err(fields.unsupported("use_sliding_window", "false"));
        }
        if !matches!(fields.number("partial_rotary_factor")?, None | Some(1.0)) {
            return Err(fields.unsupported("partial_rotary_factor", "1"));
        }

        let hidden = fields.size("hidden_size")?;
        let heads = fields.size("num_attention_heads")?;
        let kv_heads = fields.optional_size("num_key_value_heads")?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            let (field, other) = ("num_attention_heads", "num_key_value_heads");
            return Err(ConfigError::Mismatch { field, value: heads, other, other_value: kv_heads });
        }
        let head_dim = match fields.optional_size("head_dim")? {
            Some(head_dim) => head_dim,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                let (field, other) = ("hidden_size", "num_attention_heads");
                return Err(ConfigError::Mismatch { field, value: hidden, other, other_value: heads });
            }
        };
        if head_dim % 2 != 0 {
            let (field, value) = ("head_dim", head_dim.to_string());
            return Err(ConfigError::Unsupported { field, value, supported: "even numbers" });
        }
        let vocab = fields.size("vocab_size")?;
        if vocab > MAX_VOCAB {
            return Err(fields.unsupported("vocab_size", "up to 1048576 tokens"));
        }
        let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
        if family != Family::Llama && attention_bias {
            return Err(fields.unsupported("attention_bias", "false in this model_type"));
        }
        let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
        if family != Family::Llama && mlp_bias {
            return Err(fields.unsupported("mlp_bias", "false in this model_type"));
        }
        let (rope_theta, rope_scaling) = rope(&fields)?;

        Ok(Config {
            family,
            vocab,
            hidden,
            intermediate: fields.size("intermediate_size")?,
            layers: fields.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            context: fields.size("max_position_embeddings")?,
            norm_eps: fields.positive("rms_norm_eps")?.ok_or(ConfigError::Missing { field: "rms_norm_eps" })?,
            rope_theta,
            rope_scaling,
            tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: attention_bias || family == Family::Qwen2,
            output_bias: attention_bias,
            mlp_bias,
            end_of_text: fields.tokens("eos_token_id")?,
        })
    }

    /// The family of the checkpoint.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The number of logits in a row. It may be larger than the tokenizer's vocabulary: some checkpoints pad theirs.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The most tokens a sequence may have.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The number of layers.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The tokens that end a text: `eos_token_id`, an integer or a list. Empty if there is no such field.
    pub fn end_of_text(&self) -> &[u32] {
        &self.end_of_text
    }
}

/// The tokens that end a text according to a `config.json` or `generation_config.json`, none if it does not say.
///
/// # Errors
/// The text is no JSON object, or `eos_token_id` is neither a token nor a list of tokens.
pub(super) fn end_of_text(text: &str) -> Result<Vec<u32>, ConfigError> {
    Fields(&serde_json::from_str(text).map_err(ConfigError::Json)?).tokens("eos_token_id")
}

/// The base of the rotary embedding and its scaling. Files of version 5 of the library say both in `rope_parameters`;
/// older ones have `rope_theta` at the top and `rope_scaling`, whose type was once called `type`.
fn rope(fields: &Fields) -> Result<(f64, RopeScaling), ConfigError> {
    /// What every family takes if the file does not say.
    const THETA: f64 = 10_000.0;

    let (outer, inner) = match (fields.object("rope_parameters")?, fields.object("rope_scaling")?) {
        (Some(inner), _) => ("rope_parameters", inner),
        (None, Some(inner)) => ("rope_scaling", inner),
        (None, None) => return Ok((fields.positive("rope_theta")?.unwrap_or(THETA), RopeScaling::Default)),
    };
    let inner = Fields(inner);
    let theta = match inner.positive("rope_theta")? {
        Some(theta) => theta,
        None => fields.positive("rope_theta")?.unwrap_or(THETA),
    };
    if !matches!(inner.number("partial_rotary_factor")?, None | Some(1.0)) {
        return Err(inner.unsupported("partial_rotary_factor", "1"));
    }
    let required = |field| inner.positive(field)?.ok_or(ConfigError::Missing { field });
    let kind = match inner.text("rope_type")? {
        Some(kind) => Some(kind),
        None => inner.text("type")?,
    };
    let scaling = match kind {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear { factor: required("factor")? },
        Some("llama3") => {
            let (low_freq_factor, high_freq_factor) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if !(low_freq_factor < high_freq_factor) {
                return Err(inner.unsupported("high_freq_factor", "numbers above low_freq_factor"));
            }
            RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_context: required("original_max_position_embeddings")?,
            }
        }
        Some(_) => return Err(fields.unsupported(outer, "the types default, linear and llama3")),
    };
    Ok((theta, scaling))
}

/// The fields of a JSON object. `null` is the same as a field that is not there.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn present(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn read<'a, T>(
        &'a self,
        field: &'static str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.present(field) else { return Ok(None) };
        match read(value) {
            Some(found) => Ok(Some(found)),
            None => Err(ConfigError::Kind { field, value: value.to_string(), wanted }),
        }
    }

    fn text(&self, field: &'static str) -> Result<Option<&str>, ConfigError> {
        self.read(field, "a text", Value::as_str)
    }

    fn flag(&self, field: &'static str) -> Result<Option<bool>, ConfigError> {
        self.read(field, "true or false", Value::as_bool)
    }

    fn object(&self, field: &'static str) -> Result<Option<&Map<String, Value>>, ConfigError> {
        self.read(field, "an object", Value::as_object)
    }

    fn number(&self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        self.read(field, "a number", Value::as_f64)
    }

    fn positive(&self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        self.read(field, "a positive number", |value| value.as_f64().filter(|&x| x > 0.0 && x.is_finite()))
    }

    fn optional_size(&self, field: &'static str) -> Result<Option<usize>, ConfigError> {
        self.read(field, "an integer from 1 to 16777216", |value| {
            value.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=MAX_SIZE).contains(size))
        })
    }

    fn size(&self, field: &'static str) -> Result<usize, ConfigError> {
        self.optional_size(field)?.ok_or(ConfigError::Missing { field })
    }

    fn tokens(&self, field: &'static str) -> Result<Vec<u32>, ConfigError> {
        let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        let tokens = self.read(field, "a token or a list of tokens", |value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            value => token(value).map(|token| vec![token]),
        })?;
        Ok(tokens.unwrap_or_default())
    }

    /// The error for a field that is present. What it holds may be long; a line of it is enough.
    fn unsupported(&self, field: &'static str, supported: &'static str) -> ConfigError {
        let value = self.present(field).map_or_else(|| "null".to_string(), Value::to_string);
        ConfigError::Unsupported { field, value: value.chars().take(200).collect(), supported }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(changes: &[(&str, Value)]) -> Result<Config, ConfigError> {
        let mut fields: Map<String, Value> = serde_json::from_str(
            r#"{"model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12,
                "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-6}"#,
        )
        .unwrap();
        for (field, value) in changes {
            fields.insert(field.to_string(), value.clone());
        }
        Config::from_json(&Value::Object(fields).to_string())
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let config = config(&[]).unwrap();
        assert_eq!((config.kv_heads, config.head_dim, config.rope_theta), (2, 4, 10_000.0));
        assert_eq!(config.rope_scaling, RopeScaling::Default);
        assert!(!config.tied && !config.qkv_bias && !config.output_bias && !config.mlp_bias);
        assert!(config.end_of_text().is_empty());
    }

    #[test]
    fn the_rotary_embedding_is_read_in_both_forms() {
        let llama3 = r#"{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 16}"#;
        let mut inner: Value = serde_json::from_str(llama3).unwrap();
        let old = config(&[("rope_theta", 5e5.into()), ("rope_scaling", inner.clone())]).unwrap();
        inner["rope_theta"] = 5e5.into();
        let new = config(&[("rope_parameters", inner)]).unwrap();
        assert_eq!(old, new);
        assert_eq!(old.rope_theta, 5e5);
        assert!(matches!(old.rope_scaling, RopeScaling::Llama3 { .. }));

        let linear = serde_json::json!({"type": "linear", "factor": 2.0});
        assert_eq!(config(&[("rope_scaling", linear)]).unwrap().rope_scaling, RopeScaling::Linear { factor: 2.0 });
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_value() {
        let cases = [
            ("model_type", Value::from("gemma3")),
            ("hidden_act", "gelu".into()),
            ("quantization_config", serde_json::json!({"bits": 4})),
            ("sliding_window", 4096.into()),
            ("use_sliding_window", true.into()),
            ("partial_rotary_factor", 0.5.into()),
            ("head_dim", 5.into()),
            ("vocab_size", (MAX_VOCAB + 1).into()),
            ("rope_scaling", serde_json::json!({"rope_type": "yarn", "factor": 4.0})),
            ("rope_parameters", serde_json::json!({"rope_type": "dynamic", "factor": 4.0})),
        ];
        for (name, value) in cases {
            let error = config(&[(name, value.clone())]).unwrap_err();
            let ConfigError::Unsupported { field, value: found, .. } = &error else { panic!("{name}: {error}") };
            assert_eq!((*field, found.as_str()), (name, value.to_string().as_str()));
        }
        let qwen2 = |bias: bool| config(&[("model_type", "qwen2".into()), ("attention_bias", bias.into())]);
        assert!(qwen2(false).unwrap().qkv_bias && !qwen2(false).unwrap().output_bias);
        assert!(matches!(qwen2(true), Err(ConfigError::Unsupported { field: "attention_bias", .. })));
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(matches!(Config::from_json("[]"), Err(ConfigError::Json(_))));
        assert!(matches!(config(&[("hidden_size", Value::Null)]), Err(ConfigError::Missing { field: "hidden_size" })));
        for (name, value) in [
            ("hidden_size", Value::from(0)),
            ("hidden_size", (-8).into()),
            ("num_hidden_layers", (1_u64 << 40).into()),
            ("rms_norm_eps", 0.0.into()),
            ("tie_word_embeddings", "yes".into()),
            ("eos_token_id", serde_json::json!([1, -2])),
        ] {
            let error = config(&[(name, value.clone())]).unwrap_err();
            assert!(matches!(&error, ConfigError::Kind { field, .. } if *field == name), "{name}: {error}");
            assert!(error.to_string().contains(&value.to_string()), "{error}");
        }
        assert!(matches!(
            config(&[("num_key_value_heads", 3.into())]),
            Err(ConfigError::Mismatch { field: "num_attention_heads", value: 2, other_value: 3, .. })
        ));
        assert!(matches!(
            config(&[("num_attention_heads", 3.into())]),
            Err(ConfigError::Mismatch { field: "hidden_size", value: 8, other_value: 3, .. })
        ));
    }

    #[test]
    fn end_of_text_is_one_token_or_several() {
        assert_eq!(config(&[("eos_token_id", 3.into())]).unwrap().end_of_text(), [3]);
        assert_eq!(config(&[("eos_token_id", serde_json::json!([3, 5]))]).unwrap().end_of_text(), [3, 5]);
        assert_eq!(end_of_text(r#"{"eos_token_id": [7]}"#).unwrap(), [7]);
        assert!(end_of_text("{}").unwrap().is_empty());
    }
}
