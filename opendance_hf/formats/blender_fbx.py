"""Convert a GLB to FBX inside Blender; run by :mod:`opendance_hf.formats.fbx` in a process of its own, never imported.

Usage: ``blender --background --factory-startup --python blender_fbx.py -- IN.glb OUT.fbx FPS FRAMES``, or with a Python that
has the package ``bpy``.
"""

import sys

#: Oldest version whose importer of glTF has the options below.
OLDEST = (4, 2, 0)


def convert(source: str, target: str, fps: float, num_frames: int) -> None:
    """Load a GLB written by OpenDance-HF and save it as FBX: y up, -z forward, one key a frame."""
    import bpy

    if bpy.app.version < OLDEST:
        needed = ".".join(map(str, OLDEST[:2]))
        sys.exit(f"Blender {bpy.app.version_string} is too old, {needed} or newer is needed")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    # The importer converts seconds to frames with the rate of the scene, so that it must be set first.
    scene.render.fps = max(1, round(fps))
    scene.render.fps_base = scene.render.fps / fps
    bpy.ops.import_scene.gltf(filepath=source, bone_heuristic="BLENDER", guess_original_bind_pose=False)
    for shape in [item for item in bpy.data.objects if item.type == "MESH" and not item.modifiers]:
        bpy.data.objects.remove(shape)  # the importer shows joints as spheres
    scene.frame_start, scene.frame_end = 0, num_frames - 1
    bpy.ops.export_scene.fbx(
        filepath=target,
        object_types={"ARMATURE", "MESH"},
        apply_scale_options="FBX_SCALE_ALL",
        axis_forward="-Z",
        axis_up="Y",
        add_leaf_bones=False,
        primary_bone_axis="Y",
        secondary_bone_axis="X",
        bake_anim=True,
        bake_anim_use_all_bones=True,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_force_startend_keying=True,
        bake_anim_step=1.0,
        bake_anim_simplify_factor=0.0,
    )


if __name__ == "__main__":
    given = sys.argv[sys.argv.index("--") + 1 :]
    convert(given[0], given[1], float(given[2]), int(given[3]))
