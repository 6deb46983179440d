//! Keys and values of one sequence's tree.

use candle_core::{DType, Device, Result, Tensor};

use super::config::Config;

/// The fewest slots that are reserved.
const MIN_SLOTS: usize = 128;

/// Keys and values of every slot in every layer, `[kv_heads, capacity, head_dim]` each.
#[derive(Default)]
pub(super) struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    capacity: usize,
}

impl Cache {
    /// Makes room for `slots` slots, of which the first `used` hold something. Capacity grows by doubling.
    pub fn reserve(&mut self, slots: usize, used: usize, config: &Config, device: &Device, dtype: DType) -> Result<()> {
        if slots <= self.capacity {
            return Ok(());
        }
        let capacity = slots.next_power_of_two().max(MIN_SLOTS);
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let grown = |old: Option<&Tensor>| {
                let new = Tensor::zeros((config.kv_heads, capacity, config.head_dim), dtype, device)?;
                if let Some(old) = old.filter(|_| used > 0) {
                    new.slice_set(&old.narrow(1, 0, used)?.contiguous()?, 1, 0)?;
                }
                Ok::<Tensor, candle_core::Error>(new)
            };
            let old = self.layers.get(layer);
            layers.push((grown(old.map(|old| &old.0))?, grown(old.map(|old| &old.1))?));
        }
        (self.layers, self.capacity) = (layers, capacity);
        Ok(())
    }

    /// Writes keys and values, `[kv_heads, n, head_dim]` each and contiguous, from slot `first` on. Returns those of all
    /// slots up to the last one written.
    pub fn append(&self, layer: usize, first: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let slots = first + keys.dim(1)?;
        let (all_keys, all_values) = &self.layers[layer];
        all_keys.slice_set(keys, 1, first)?;
        all_values.slice_set(values, 1, first)?;
        Ok((all_keys.narrow(1, 0, slots)?, all_values.narrow(1, 0, slots)?))
    }

    /// Moves the slots of `way` to the slots from `first` on. Slots before `first` stay.
    pub fn gather(&self, first: usize, way: &[usize], device: &Device) -> Result<()> {
        if way.iter().copied().eq(first..first + way.len()) {
            return Ok(());
        }
        let slots: Vec<u32> = way.iter().map(|&slot| slot as u32).collect();
        let slots = Tensor::new(slots, device)?;
        // Everything is gathered before anything is overwritten, so that an error leaves the cache as it was.
        let mut moved = Vec::with_capacity(self.layers.len());
        for (keys, values) in &self.layers {
            moved.push((keys.index_select(&slots, 1)?, values.index_select(&slots, 1)?));
        }
        for ((keys, values), (new_keys, new_values)) in self.layers.iter().zip(&moved) {
            keys.slice_set(new_keys, 1, first)?;
            values.slice_set(new_values, 1, first)?;
        }
        Ok(())
    }
}
