//! Image names, references and registry names: what is taken survives its own text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::oci::{ImageName, Name, Reference, RegistryName, Repository};

fuzz_target!(|text: &str| {
    if let Ok(image) = text.parse::<ImageName>() {
        assert_eq!(image.to_string().parse::<ImageName>().as_ref(), Ok(&image));
    }
    if let Ok(registry) = text.parse::<RegistryName>() {
        assert_eq!(registry.as_str().parse::<RegistryName>().as_ref(), Ok(&registry));
    }
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.as_str(), text);
        assert!(text.parse::<Name>().is_ok(), "every repository is a name");
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
});
