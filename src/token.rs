//! A token's life: where it lives (`slot`), when it is renewed (`schedule`, pure), and who renews it (`refresh`);
//! `subjects` has a slot for each of many.

mod refresh;
pub mod schedule;
mod slot;
mod subjects;

pub use slot::{Form, Policy, Slot, Status, Token, Unavailable};
pub use subjects::{Exchange, Subjects};

#[cfg(test)]
mod tests;
