//! The tensors of a checkpoint: one safetensors file or several, on disk or in memory.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

/// The largest header that is read, as in the format's own library: 100 MB.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Why the tensors of a checkpoint were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: io::Error,
    },
    /// A file is shorter or longer than its header says.
    #[error("{} has {bytes} bytes, its header says {expected}: it is cut off or no safetensors file", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// What its header announces.
        expected: u64,
    },
    /// The header of a file cannot be understood.
    #[error("{} has no valid safetensors header: {error}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: serde_json::Error,
    },
    /// The index of a checkpoint in several files cannot be understood.
    #[error("{} is no index of tensors: {error}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// The reason.
        #[source]
        error: serde_json::Error,
    },
    /// The index names a file that is not a plain name in the same directory.
    #[error("the index has {tensor} in {file:?}, which is no file name")]
    ShardName {
        /// The tensor.
        tensor: String,
        /// The name.
        file: String,
    },
    /// A tensor is not where it should be.
    #[error("there is no tensor {tensor} in {}", path.display())]
    Missing {
        /// The tensor.
        tensor: String,
        /// The file, or the index if there are several.
        path: PathBuf,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("{tensor} has shape {shape:?}, the configuration asks for {wanted:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What was expected.
        wanted: Vec<usize>,
    },
    /// A tensor's elements are of a type that is not read.
    #[error("{tensor} is of type {dtype:?}, not BF16, F16 or F32")]
    ElementType {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
    },
    /// There is a tensor that the decoder would not use: its mathematics is not that of the checkpoint.
    #[error("the configuration has no use for the tensor {tensor}")]
    Unused {
        /// The tensor.
        tensor: String,
    },
    /// A tensor could not be converted or moved to the device.
    #[error("{tensor}: {error}")]
    Backend {
        /// The tensor.
        tensor: String,
        /// The reason.
        #[source]
        error: candle_core::Error,
    },
}

/// The tensors of a checkpoint. Headers are read and checked at once, tensors when asked for.
pub(super) struct Weights {
    shards: Vec<Shard>,
    /// In which shard each tensor is.
    place: HashMap<String, usize>,
    unused: BTreeSet<String>,
    /// What is named in messages.
    path: PathBuf,
}

impl Weights {
    /// `model.safetensors` of a directory, or else the files that `model.safetensors.index.json` names.
    pub fn open(dir: &Path) -> Result<Self, WeightsError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() || !index.exists() {
            return Ok(Self::of(Shard::open(single)?));
        }
        let text = fs::read(&index).map_err(|error| WeightsError::Io { path: index.clone(), error })?;
        let not_index = |error| WeightsError::Index { path: index.clone(), error };
        let mut root: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).map_err(not_index)?;
        let map: BTreeMap<String, String> =
            serde_json::from_value(root.remove("weight_map").unwrap_or_default()).map_err(not_index)?;

        let mut weights =
            Weights { shards: Vec::new(), place: HashMap::new(), unused: BTreeSet::new(), path: index.clone() };
        let mut opened: HashMap<String, usize> = HashMap::new();
        for (tensor, file) in map {
            let shard = match opened.get(&file) {
                Some(&shard) => shard,
                None => {
                    if Path::new(&file).file_name() != Some(file.as_ref()) {
                        return Err(WeightsError::ShardName { tensor, file });
                    }
                    weights.shards.push(Shard::open(dir.join(&file))?);
                    opened.insert(file, weights.shards.len() - 1);
                    weights.shards.len() - 1
                }
            };
            if weights.shards[shard].header.info(&tensor).is_none() {
                return Err(WeightsError::Missing { tensor, path: weights.shards[shard].path.clone() });
            }
            weights.unused.insert(tensor.clone());
            weights.place.insert(tensor, shard);
        }
        Ok(weights)
    }

    /// The bytes of a safetensors file.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, WeightsError> {
        let bytes = bytes.into();
        let len = bytes.len() as u64;
        Ok(Self::of(Shard::new("the bytes given".into(), Source::Bytes(bytes), len)?))
    }

    fn of(shard: Shard) -> Self {
        let unused: BTreeSet<String> = shard.header.tensors().into_keys().collect();
        let place = unused.iter().map(|name| (name.clone(), 0)).collect();
        Weights { path: shard.path.clone(), shards: vec![shard], place, unused }
    }

    /// The type of a tensor's elements, if there is such a tensor and it is of a type that is read.
    pub fn dtype(&self, tensor: &str) -> Option<DType> {
        let shard = &self.shards[*self.place.get(tensor)?];
        element_type(shard.header.info(tensor)?.dtype)
    }

    /// A tensor, on the device and in the type given.
    pub fn take(
        &mut self,
        tensor: &str,
        wanted: &[usize],
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor, WeightsError> {
        let found = self.place.get(tensor).map(|&shard| &mut self.shards[shard]);
        let missing = || WeightsError::Missing { tensor: tensor.into(), path: self.path.clone() };
        let shard = found.ok_or_else(missing)?;
        let info = shard.header.info(tensor).ok_or_else(missing)?.clone();
        let Some(stored) = element_type(info.dtype) else {
            return Err(WeightsError::ElementType { tensor: tensor.into(), dtype: info.dtype });
        };
        if info.shape != wanted {
            return Err(WeightsError::Shape { tensor: tensor.into(), shape: info.shape, wanted: wanted.into() });
        }
        let bytes = shard.read(&info)?;
        self.unused.remove(tensor);
        Tensor::from_raw_buffer(&bytes, stored, wanted, device)
            .and_then(|loaded| loaded.to_dtype(dtype))
            .map_err(|error| WeightsError::Backend { tensor: tensor.into(), error })
    }

    /// Refuses a checkpoint with tensors that were not taken, but for those that `harmless` lets pass.
    pub fn finish(self, harmless: impl Fn(&str) -> bool) -> Result<(), WeightsError> {
        match self.unused.into_iter().find(|tensor| !harmless(tensor)) {
            Some(tensor) => Err(WeightsError::Unused { tensor }),
            None => Ok(()),
        }
    }
}

fn element_type(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        Dtype::F32 => Some(DType::F32),
        _ => None,
    }
}

enum Source {
    File(File),
    Bytes(Cow<'static, [u8]>),
}

/// One safetensors file.
struct Shard {
    path: PathBuf,
    source: Source,
    header: Metadata,
    /// Where the tensors' bytes start.
    start: u64,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, WeightsError> {
        match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((len, file)) => Self::new(path, Source::File(file), len),
            Err(error) => Err(WeightsError::Io { path, error }),
        }
    }

    fn new(path: PathBuf, mut source: Source, bytes: u64) -> Result<Self, WeightsError> {
        const PREFIX: u64 = size_of::<u64>() as u64;

        let truncated = |expected| WeightsError::Truncated { path: path.clone(), bytes, expected };
        let io = |error| WeightsError::Io { path: path.clone(), error };
        if bytes < PREFIX {
            return Err(truncated(PREFIX));
        }
        let prefix = source.read(0, PREFIX).map_err(io)?;
        let header_bytes = prefix.first_chunk().map_or(0, |prefix| u64::from_le_bytes(*prefix));
        if header_bytes > MAX_HEADER_BYTES.min(bytes - PREFIX) {
            return Err(truncated(PREFIX.saturating_add(header_bytes)));
        }
        let header = source.read(PREFIX, header_bytes).map_err(io)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|error| WeightsError::Header { path: path.clone(), error })?;
        let start = PREFIX + header_bytes;
        // Which also proves that every tensor lies within the file: they follow one another without a gap.
        match start.saturating_add(header.data_len() as u64) {
            expected if expected != bytes => Err(truncated(expected)),
            _ => Ok(Shard { path, source, header, start }),
        }
    }

    /// The bytes of a tensor.
    fn read(&mut self, info: &TensorInfo) -> Result<Cow<'_, [u8]>, WeightsError> {
        let (from, to) = info.data_offsets;
        let read = self.source.read(self.start + from as u64, (to - from) as u64);
        read.map_err(|error| WeightsError::Io { path: self.path.clone(), error })
    }
}

impl Source {
    /// `len` bytes from `start`, which lie in the file as it was when it was opened.
    fn read(&mut self, start: u64, len: u64) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Source::Bytes(bytes) => Ok(Cow::Borrowed(&bytes[start as usize..(start + len) as usize])),
            Source::File(file) => {
                let mut buffer = vec![0; len as usize];
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut buffer)?;
                Ok(Cow::Owned(buffer))
            }
        }
    }
}
