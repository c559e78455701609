"""A file of instances with 118,000 images and 860,000 annotations, 548 MB: usage make_json.py FILE."""
import math, random, sys
r = random.Random(1)
rings = []
for _ in range(500):
    n = r.randint(20, 50)
    cx, cy, a, b = r.uniform(0, 640), r.uniform(0, 480), r.uniform(5, 200), r.uniform(5, 200)
    rings.append("[[" + ",".join(f"{cx + a * math.cos(6.28318 * i / n):.2f},{cy + b * math.sin(6.28318 * i / n):.2f}" for i in range(n)) + "]]")
images, annotations = 118000, 860000
with open(sys.argv[1], "w") as out:
    out.write('{"info": {"year": 2017}, "images": [')
    out.write(",".join('{"license": 3, "file_name": "%012d.jpg", "height": 480, "width": 640, "id": %d}' % (i, i) for i in range(images)))
    out.write('], "annotations": [')
    for i in range(annotations):
        out.write('%s{"segmentation": %s, "area": %.4f, "iscrowd": 0, "image_id": %d, "bbox": [1.5, 2.5, 30.25, 40.75], "category_id": %d, "id": %d}'
                  % ("," if i else "", rings[i * 7 % 500], 700.5 + i % 1000, i * 31 % images, 1 + i % 80, i + 1))
    out.write('], "categories": [' + ",".join('{"supercategory": "x", "id": %d, "name": "c%d"}' % (i, i) for i in range(1, 81)) + ']}')
