//! Numbers for large values, so that a state of the world is small: equal values have one number.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

#[derive(Debug)]
pub(super) struct Interned<T> {
    values: RefCell<Vec<Rc<T>>>,
    by_print: RefCell<HashMap<u64, Vec<u32>>>,
    same: fn(&T, &T) -> bool,
}

impl<T> Interned<T> {
    pub(super) fn new(same: fn(&T, &T) -> bool) -> Self {
        Self { values: RefCell::default(), by_print: RefCell::default(), same }
    }

    /// The number of `value`. `print` must be equal for equal values, and should differ for others.
    pub(super) fn number(&self, value: T, print: u64) -> u32 {
        let mut by_print = self.by_print.borrow_mut();
        let mut values = self.values.borrow_mut();
        let alike = by_print.entry(print).or_default();
        if let Some(known) = alike.iter().find(|known| (self.same)(&values[**known as usize], &value)) {
            return *known;
        }
        let number = u32::try_from(values.len()).expect("far fewer");
        values.push(Rc::new(value));
        alike.push(number);
        number
    }

    pub(super) fn get(&self, number: u32) -> Rc<T> {
        self.values.borrow()[number as usize].clone()
    }

    pub(super) fn len(&self) -> usize {
        self.values.borrow().len()
    }
}
