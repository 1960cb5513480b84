//! Who may do what to a bucket and its objects. Pure.
