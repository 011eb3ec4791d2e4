"""Pictures of dances: a virtual camera, solid figures, MP4 files and previews beside the source video."""
