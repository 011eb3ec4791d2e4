"""Open a file in Blender, and save where joints and skin are; run in a process of its own with a Python that has bpy.

Usage: ``python blender_open.py FILE FPS FRAMES OUT.json BONE BONE ...``; with ``PICTURE`` in the environment also draws the
middle frame with Cycles.
"""

import json
import os
import sys

import bpy
import mathutils


def load(path: str) -> int:
    """Import a file with axes and start set explicitly, and return the scene's frame of the first frame of the file.

    Blender's own choices put BVH one frame after the start, and take 24 frames a second.
    """
    ending = path.rsplit(".", 1)[1]
    if ending == "fbx":
        bpy.ops.import_scene.fbx(filepath=path, anim_offset=0.0, axis_forward="-Z", axis_up="Y")
    elif ending == "bvh":
        bpy.ops.import_anim.bvh(
            filepath=path,
            axis_forward="-Z",
            axis_up="Y",
            global_scale=0.01,
            frame_start=0,
            use_fps_scale=False,
        )
        return 1
    elif ending.startswith("usd"):
        bpy.ops.wm.usd_import(filepath=path, set_frame_range=True)
    else:
        bpy.ops.import_scene.gltf(filepath=path, bone_heuristic="BLENDER", guess_original_bind_pose=False)
    return 0


def skin(mesh: "bpy.types.Object", group: str) -> "tuple[float, list[float] | None]":
    """Return the height of the lowest vertex of a posed mesh, and the mean of those that follow one bone."""
    posed = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    places = [mesh.matrix_world @ vertex.co for vertex in posed.data.vertices]
    lowest = min(place.z for place in places)
    index = mesh.vertex_groups.find(group)
    own = [
        places[vertex.index]
        for vertex in mesh.data.vertices
        if any(item.group == index and item.weight > 0.9 for item in vertex.groups)
    ]
    return lowest, list(sum(own, mathutils.Vector()) / len(own)) if own else None


def draw(path: str, centre: "mathutils.Vector") -> None:
    """Draw the scene with Cycles, on a grey floor."""
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=30)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location = centre + mathutils.Vector((1.2, -4.5, 0.7))
    camera.rotation_euler = (centre - camera.location).to_track_quat("-Z", "Y").to_euler()
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 3, (0.6, 0.3, 0)
    for item in (camera, sun):
        scene.collection.objects.link(item)
    scene.camera = camera
    scene.world = bpy.data.worlds.new("world")
    scene.world.color = (0.6, 0.65, 0.7)
    scene.render.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", 12
    scene.render.resolution_x, scene.render.resolution_y = 640, 480
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)


def main() -> None:
    """Run as a command."""
    path, fps, frames, out, *bones = sys.argv[1:]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = round(float(fps))
    first = load(path)
    skeletons = sorted((o for o in bpy.data.objects if o.type == "ARMATURE"), key=lambda o: o.name)
    # The glTF importer shows joints as spheres, which are meshes too.
    meshes = sorted(
        (o for o in bpy.data.objects if o.type == "MESH" and o.vertex_groups), key=lambda o: o.name
    )
    found: dict = {"joints": [], "lowest": [], "hands": [], "meshes": [mesh.name for mesh in meshes]}
    for frame in json.loads(frames):
        bpy.context.scene.frame_set(first + frame)
        places = [[list(s.matrix_world @ s.pose.bones[bone].head) for bone in bones] for s in skeletons]
        found["joints"].append(places)
        if meshes:
            lowest, hands = zip(*(skin(mesh, bones[-1]) for mesh in meshes), strict=True)
            found["lowest"].append(lowest)
            found["hands"].append(hands)
    if picture := os.environ.get("PICTURE"):
        middle = json.loads(frames)[len(json.loads(frames)) // 2]
        bpy.context.scene.frame_set(first + middle)
        heads = [s.matrix_world @ s.pose.bones[bones[0]].head for s in skeletons]
        draw(picture, sum(heads, mathutils.Vector()) / len(heads))
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


main()
