"""What `scripts.build_video_sample` and `scripts.bench_video` share: people before a camera, drawn and detected."""
