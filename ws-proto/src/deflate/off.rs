//! In place of [`super`] without the feature `deflate`: types without values, so that no code is left of them.

use crate::{buffer::Buffer, error::ProtocolError};

#[derive(Debug)]
pub(crate) enum Deflater {}

impl Deflater {
    pub(crate) fn wants(&self, _len: usize) -> bool {
        match *self {}
    }

    pub(crate) fn is_independent(&self) -> bool {
        match *self {}
    }

    pub(crate) fn deflate(&mut self, _payload: &[u8], _last: bool, _out: &mut Buffer) {
        match *self {}
    }

    pub(crate) fn deflate_alone(&self, _payload: &[u8], _out: &mut Buffer) {
        match *self {}
    }

    pub(crate) fn reset(&mut self) {
        match *self {}
    }

    pub(crate) fn rest(&mut self) {
        match *self {}
    }

    pub(crate) fn class(&self) -> u8 {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Inflater {}

impl Inflater {
    pub(crate) fn inflate(&mut self, _: &[u8], _: &mut Buffer, _: usize) -> Result<(), ProtocolError> {
        match *self {}
    }

    pub(crate) fn finish(&mut self, _: &mut Buffer, _: usize) -> Result<(), ProtocolError> {
        match *self {}
    }
}
