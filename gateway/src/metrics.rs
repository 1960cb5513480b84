//! Every metric's name and labels.
