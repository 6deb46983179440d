//! Keys and values of one sequence's tree.

use candle_core::{DType, Device, Result, Tensor};

use super::config::Config;

/// The fewest slots that are reserved.
const MIN_SLOTS: usize = 128;

/// Keys and values of every slot in every layer: one tensor, so that slots move in one step.
#[derive(Default)]
pub(super) struct Cache {
    /// `[layers · 2 · kv_heads, capacity, head_dim]`: of each layer the keys, then the values.
    slots: Option<Tensor>,
    kv_heads: usize,
}

impl Cache {
    fn capacity(&self) -> Result<usize> {
        self.slots.as_ref().map_or(Ok(0), |slots| slots.dim(1))
    }

    /// Makes room for `slots` slots, of which the first `used` hold something. Capacity grows by doubling.
    pub fn reserve(&mut self, slots: usize, used: usize, config: &Config, device: &Device, dtype: DType) -> Result<()> {
        if slots <= self.capacity()? {
            return Ok(());
        }
        let capacity = slots.next_power_of_two().max(MIN_SLOTS);
        let shape = (config.layers * 2 * config.kv_heads, capacity, config.head_dim);
        let grown = Tensor::zeros(shape, dtype, device)?;
        if let Some(old) = self.slots.as_ref().filter(|_| used > 0) {
            grown.slice_set(&old.narrow(1, 0, used)?.contiguous()?, 1, 0)?;
        }
        (self.slots, self.kv_heads) = (Some(grown), config.kv_heads);
        Ok(())
    }

    /// Keys and values of a layer, `[kv_heads, capacity, head_dim]` each and contiguous. There has to be room.
    pub fn layer(&self, layer: usize) -> Result<(Tensor, Tensor)> {
        let Some(slots) = &self.slots else {
            candle_core::bail!("a sequence without slots");
        };
        let first = 2 * layer * self.kv_heads;
        Ok((slots.narrow(0, first, self.kv_heads)?, slots.narrow(0, first + self.kv_heads, self.kv_heads)?))
    }

    /// Writes keys and values, `[kv_heads, n, head_dim]` each and contiguous, from slot `first` on. Returns those of all
    /// slots up to the last one written.
    pub fn append(&self, layer: usize, first: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let slots = first + keys.dim(1)?;
        let (all_keys, all_values) = self.layer(layer)?;
        all_keys.slice_set(keys, 1, first)?;
        all_values.slice_set(values, 1, first)?;
        Ok((all_keys.narrow(1, 0, slots)?, all_values.narrow(1, 0, slots)?))
    }

    /// Moves the slots of `way` to the slots from `first` on. Slots before `first` stay.
    pub fn gather(&self, first: usize, way: &[usize], device: &Device) -> Result<()> {
        let Some(slots) = self.slots.as_ref().filter(|_| !way.iter().copied().eq(first..first + way.len())) else {
            return Ok(());
        };
        let way: Vec<u32> = way.iter().map(|&slot| slot as u32).collect();
        // Gathered before anything is overwritten.
        let moved = slots.index_select(&Tensor::new(way, device)?, 1)?;
        slots.slice_set(&moved, 1, first)
    }
}
