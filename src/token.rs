//! A token's life: where it lives (`slot`), when it is renewed (`schedule`, pure), and who renews it (`refresh`).

mod refresh;
pub mod schedule;
mod slot;

pub use slot::{Form, Policy, Slot, Status, Token, Unavailable};

#[cfg(test)]
mod tests;
